// Package config reads weir's configuration: one TOML file, through koanf, into the Config types of the parts.
//
//	budget, drain, lameduck, watch, private_zones, [log], [admin], [wasm], [policy]
//	[[listener]] ─ chain ─► [chain.NAME] ─ filters ──► [filter.NAME] ─ config names ─► [table.NAME]
//	 └ [[listener.scope]]        └──────── upstream ─► [upstream.NAME] ─ cache ─► [cache.NAME]
//
// It is strict: a key that nothing reads, a value of another type, a name that nothing has are errors. All of them are reported
// together, each with its line, the key, what is wrong and what would be right:
//
//	weir.toml:12: upstream.corp.server: is not a key: did you mean `servers`?
//
// # Environment
//
// Variables override what is in the file. The name is WEIR_ and the path of the key with __ between its parts:
//
//	WEIR_LOG__LEVEL=debug
//	WEIR_UPSTREAM__DEFAULT__SERVERS=192.0.2.1,192.0.2.2
//	WEIR_LISTENER__0__ADDRESS=127.0.0.1:5353
//
// The case of letters does not matter, and _ stands for - as well, so that WEIR_CHAIN__VPC_A__UPSTREAM is for [chain.vpc-a]. Two tables that
// differ in nothing else, or have __ in their names, can't be told apart and are out of reach. The elements of a list of strings are separated
// by commas. A variable may add a key to a table, but not a table that the operator names, nor an element of a list of tables, nor a key to
// [filter.NAME.config]: there it could only be a typing error. A variable that begins with WEIR_ and is nothing of this is an error, except
// those that Kubernetes and Docker set for a service with the name weir (WEIR_SERVICE_HOST, WEIR_PORT_53_UDP, ...).
//
// # What is checked elsewhere
//
// The keys in [filter.NAME.config] are checked by the filter's schema. What it and the filter find is put in the same form by [File.Error].
// The order of filters and values that may be once in a chain need the manifests: [File.CheckChain] and [File.CheckUnique].
package config
