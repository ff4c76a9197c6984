module authsome/proxy/bench

go 1.26.0

require authsome v0.0.0

replace authsome => ../..
