package proxy

// TrustedFor is how long a connection must be idle to be doubted.
const TrustedFor = trustedFor
