// Package check tests the manifests beside it: that Compose, Kubernetes, the
// Prometheus operator and Helm know every key in them, and that what is said
// twice is said alike. Their libraries are large, which is why this is a module
// of its own. The test of package deploy in the main module runs it.
//
//	go -C deploy/check test ./...
//	go -C deploy/check test -run TestRules -update
package check
