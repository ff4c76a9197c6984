package isolate

// Answer answers one message.
func (r *Resolver) Answer(message []byte, datagram bool) []byte { return r.answer(message, datagram) }
