// Package pages serves the web pages that a person meets during a login: the
// form for an API key, the form for an OAuth client, the device code, and the
// result.
//
// One [Server] serves one login. It listens on loopback on a random port, and
// everything it shows lives below one unguessable path. The browser is always
// shown the page that is current: a tab that was opened late, reloaded, or left
// open sees how the login stands, whatever it showed before.
//
//	http://127.0.0.1:<port>/<token>/           the current page; forms are posted here
//	http://127.0.0.1:<port>/<token>/wait/<n>   the first page that is newer than version n
//
// The pages need no script. A page that waits for the program names wait/<n> in
// a meta refresh, and the answer is held back until there is something new, so
// that the page stays as it is, focus and selection included, until then.
//
// What is accepted: GET and HEAD with the listener's own address as Host, and
// POST of a form that this server drew, from a page of this server, at most
// [MaxFormBytes] long. Everything else is refused and changes nothing.
//
// Guarantees:
//   - A secret that was typed is handed to the caller as a [secret.Text] and to
//     nobody else: no page, header, error or log line repeats it.
//   - The first valid submission of a form decides; later ones are told so.
//   - No page loads anything, may be framed or cached, or names its own address
//     in a Referer. What was typed is not there again on the way back.
//
// What is not defended against: another program of the same user, which can
// read the address from the process list and the answer from memory.
package pages
