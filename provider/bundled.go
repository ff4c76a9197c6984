package provider

import (
	"embed"
	"fmt"
	"maps"
	"strings"
	"sync"
)

//go:embed definitions/*.json
var bundledFiles embed.FS

const bundledDir = "definitions"

// bundledNames lists the bundled definitions without reading them.
var bundledNames = sync.OnceValue(func() map[string]*bundle {
	files, err := bundledFiles.ReadDir(bundledDir)
	if err != nil {
		panic(fmt.Sprintf("provider: bundled definitions: %v", err)) // the build embeds them
	}
	names := make(map[string]*bundle, len(files))
	for _, f := range files {
		names[strings.TrimSuffix(f.Name(), extension)] = &bundle{file: bundledDir + "/" + f.Name()}
	}
	return names
})

// bundle is one bundled definition. It is read when it is first asked for: most
// commands need one of them or none.
type bundle struct {
	file string
	once sync.Once
	def  *Definition
}

// definition reads the file. It is not validated here, at every start of the
// program; the package's tests hold that every bundled file is valid.
func (b *bundle) definition() *Definition {
	b.once.Do(func() {
		data, err := bundledFiles.ReadFile(b.file)
		if err != nil {
			panic(fmt.Sprintf("provider: %v", err)) // the build embeds it
		}
		def, errs := decode(data)
		if len(errs) > 0 {
			panic(fmt.Sprintf("provider: %s: %v", b.file, errs))
		}
		b.def = def
	})
	return b.def
}

// Bundled returns a new registry of the bundled definitions alone.
func Bundled() *Registry {
	return &Registry{bundled: maps.Clone(bundledNames())}
}
