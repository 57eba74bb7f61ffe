package config

import (
	"errors"
	"strings"
	"testing"
)

// rest makes a complete file of a few lines; it comes behind them.
const rest = `
[[listener]]
address = "127.0.0.1:5300"
chain = "main"
[upstream.default]
servers = ["192.0.2.53"]
[chain.main]
upstream = "default"
`

// mistakes are what operators get wrong, with all that they read then.
var mistakes = []struct {
	name  string
	text  string
	whole bool // the text is the whole file
	env   []string
	want  string
}{
	// TOML.
	{name: "no quotes", text: "[admin]\naddress = 127.0.0.1:9153",
		want: `weir.toml:2:16: expected the end of the line but got '.': a text has to be in quotes, as in "127.0.0.1:9153"`},
	{name: "no quotes around a word", text: "[log]\nlevel = debug",
		want: `weir.toml:2:9: unexpected character 'd' at start of value: a text has to be in quotes, as in "debug"`},
	{name: "no quotes around a duration", text: "budget = 1s",
		want: `weir.toml:1:11: strings must be quoted: a text has to be in quotes, as in "1s"`},
	{name: "quote left open", text: "[log]\nlevel = \"debug",
		want: `weir.toml:2:15: expected a closing " before the end of the line`},
	{name: "bracket left open", text: "[log\nlevel = \"debug\"",
		want: `weir.toml:1:5: expected ']' to close table name`},
	{name: "double bracket left open", text: "[[listener]\naddress = \"127.0.0.1:53\"",
		want: `weir.toml:1:11: expected ']]' to close array table name`},
	{name: "list left open", text: "[[listener]]\naddress = \"127.0.0.1:53\"\nprotocols = [\"udp\"\n", whole: true,
		want: `weir.toml:3:19: expected ] at the end of the list`},
	{name: "no equals sign", text: "[log]\nlevel \"debug\"",
		want: `weir.toml:2:7: expected '=' after key`},
	{name: "no value", text: "[log]\nlevel =",
		want: `weir.toml:2:8: expected a value`},
	{name: "two in a line", text: "[log]\nlevel = \"debug\" format = \"json\"",
		want: `weir.toml:2:17: expected the end of the line but got 'f'`},
	{name: "bad escape", text: `wasm.cache_dir = "C:\weir"`,
		want: "weir.toml:1:21: write \\\\ for \\, or put the string in single quotes: \\ does not go with 'w'"},
	{name: "control character", text: "[log]\nlevel = \"de\x01bug\"",
		want: `weir.toml:2:12: basic strings cannot have control characters`},
	{name: "not UTF-8", text: "[log]\nlevel = \"\xff\"",
		want: `weir.toml:2:10: invalid UTF-8 character in basic string`},
	{name: "key twice", text: "[log]\nlevel = \"debug\"\n\nlevel = \"info\"",
		want: `weir.toml:4: log.level: is there twice, first in line 2: delete one of them`},
	{name: "table twice", text: "[upstream.a]\nservers = [\"192.0.2.1\"]\n[upstream.a]\nservers = [\"192.0.2.2\"]",
		want: "weir.toml:3: upstream.a: is there twice, first in line 1: put all of its keys under one [upstream.a]\n" +
			`weir.toml:4: upstream.a.servers: is there twice, first in line 2: delete one of them`},
	{name: "two keys twice", text: "budget = \"1s\"\nbudget = \"1s\"\ndrain = \"1s\"\ndrain = \"1s\"",
		want: "weir.toml:2: budget: is there twice, first in line 1: delete one of them\n" +
			`weir.toml:4: drain: is there twice, first in line 3: delete one of them`},
	{name: "key twice in an inline table", text: "log = { level = \"info\", level = \"info\" }",
		want: `weir.toml:1: log.level: is there twice, first in line 1: delete one of them`},
	{name: "table under a value", text: "budget = \"1s\"\n[budget.more]",
		want: `weir.toml:2:2: key budget already exists as a value`},
	{name: "single brackets after double", text: "[[listener]]\naddress = \"127.0.0.1:53\"\nchain = \"main\"\n[listener]\nchain = \"main\"",
		want: `weir.toml:4: listener: is a list of tables since line 1: write [[listener]], with two brackets`},
	{name: "too deep", text: "[filter.x.config]\na = " + strings.Repeat("[", 40) + strings.Repeat("]", 40),
		want: `weir.toml:1: tables and arrays are nested more than 32 levels deep`},
	{name: "number too large", text: "[policy]\nmax_servers = 99999999999999999999",
		want: `weir.toml:2:15: decimal number is too large to fit in a 64-bit signed integer`},

	// Keys.
	{name: "mistyped key", text: "[upstream.corp]\nserver = [\"192.0.2.1\"]",
		want: "weir.toml:2: upstream.corp.server: is not a key: did you mean `servers`?"},
	{name: "swapped letters", text: "[upstream.corp]\nsevrers = [\"192.0.2.1\"]",
		want: "weir.toml:2: upstream.corp.sevrers: is not a key: did you mean `servers`?"},
	{name: "key of something else", text: "[upstream.corp]\nservers = [\"192.0.2.1\"]\nforce_tcp = true",
		want: `weir.toml:3: upstream.corp.force_tcp: is not a key: [upstream.corp] has servers, bootstrap, resolv_conf, transport, policy, max_fails, expire, health_check, healthy_rcodes, probe, max_concurrent, over_limit, read_timeout, dial_timeout, ca, pin, certificate, key, sources, preset, all_down, case, client_subnet, cookies, udp_gso, trusted, norecurse, special_names, any, private, cache`},
	{name: "unknown section", text: "[server]\nx = 1",
		want: `weir.toml:1: server: is not a key: write one of log, admin, budget, drain, lameduck, watch, process, wasm, policy, private_zones, listener, table, cache, upstream, chain, filter`},
	{name: "mistyped section", text: "[upstreams.corp]\nservers = [\"192.0.2.1\"]",
		want: "weir.toml:1: upstreams: is not a key: did you mean `upstream`?"},
	{name: "key of the top level in a table", text: "[log]\nlevel = \"info\"\nbudget = \"1s\"",
		want: "weir.toml:3: log.budget: is not a key of a table: write `budget` at the top of the file, before the first [table]"},
	{name: "settings of a filter beside config", text: "[filter.rules]\nrule = [ { zone = \"example.com\", upstream = \"default\" } ]",
		want: `weir.toml:2: filter.rules.rule: is not a key: settings of the filter itself go into [filter.rules.config], and [filter.rules] has module, fuel, memory, on_error, grants, config`},
	{name: "unknown key in an element", text: "[[listener]]\naddress = \"127.0.0.1:53\"\nchain = \"main\"\n[[listener.scope]]\nclient = [\"10.0.0.0/8\"]\nchain = \"main\"",
		want: "weir.toml:5: listener[0].scope[0].client: is not a key: did you mean `clients`?"},
	{name: "quoted key", text: "[log]\n\"a.b\" = 1",
		want: `weir.toml:2: log."a.b": is not a key: [log] has level, format, queries, query_format, query_file`},
	{name: "name with a dot", text: "[upstream.\"corp.example\"]\nservers = [\"192.0.2.1\"]",
		want: `weir.toml:1: upstream."corp.example": "corp.example" can't be a name: write at most 63 letters, digits, - and _`},
	{name: "empty name", text: "[chain.\"\"]\nupstream = \"default\"",
		want: `weir.toml:1: chain."": "" can't be a name: write at most 63 letters, digits, - and _`},

	// Types.
	{name: "a string for a list", text: "[upstream.corp]\nservers = \"192.0.2.1\"",
		want: `weir.toml:2: upstream.corp.servers: is a string: write a list, as in ["192.0.2.1"]`},
	{name: "a number in a list", text: "[upstream.corp]\nservers = [\"192.0.2.1\", 53]",
		want: `weir.toml:2: upstream.corp.servers[1]: is a whole number: write a string, such as "192.0.2.53"`},
	{name: "TLS without certificate", whole: false, text: "[[listener]]\naddress = \"127.0.0.1:853\"\nprotocols = [\"tls\"]\nchain = \"main\"",
		want: "weir.toml:1: listener[0].certificate: is missing: name a file with its certificate, in PEM form\n" +
			`weir.toml:1: listener[0].key: is missing: name a file with the private key of its certificate, in PEM form`},
	{name: "two listeners on a port of UDP", text: "[[listener]]\naddress = \"127.0.0.1:443\"\nprotocols = [\"https\"]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\nchain = \"main\"\n" +
		"[[listener]]\naddress = \"127.0.0.1:443\"\nprotocols = [\"quic\"]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\nchain = \"main\"",
		want: `weir.toml:8: listener[1].address: 127.0.0.1:443 over udp is the address of listener[0] too, in weir.toml:2: give each its own`},
	{name: "two protocols on a port of TCP", text: "[[listener]]\naddress = \"127.0.0.1:853\"\nprotocols = [\"tcp\", \"tls\"]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\nchain = \"main\"",
		want: `weir.toml:3: listener[0].protocols: "tcp" and "tls" can't share a port of TCP: write a [[listener]] for each, with its own port`},
	{name: "a number for a list", text: "[chain.x]\nfilters = 1\nupstream = \"default\"",
		want: `weir.toml:2: chain.x.filters: is a whole number: write a list, such as ["authority", "rules"]`},
	{name: "a number for a string", text: "[admin]\naddress = 9153",
		want: `weir.toml:2: admin.address: is a whole number: write a string, such as "127.0.0.1:9153"`},
	{name: "a number for a duration", text: "budget = 2",
		want: `weir.toml:1: budget: is a whole number: write a duration with its unit, such as "2s"`},
	{name: "a duration without unit", text: "budget = \"2\"",
		want: `weir.toml:1: budget: "2" has no unit: write "2s", or ms, m, h`},
	{name: "a bad duration", text: "drain = \"2 seconds\"",
		want: `weir.toml:1: drain: "2 seconds" is not a duration: write a number and a unit, such as "500ms", "10s" or "1h30m"`},
	{name: "a list for a duration", text: "drain = [1]",
		want: `weir.toml:1: drain: is a list: write a duration in quotes, such as "10s"`},
	{name: "a string for true", text: "[upstream.corp]\nservers = [\"192.0.2.1\"]\nprivate = \"yes\"",
		want: `weir.toml:3: upstream.corp.private: is a string: write true or false`},
	{name: "a string for a number", text: "[upstream.corp]\nservers = [\"192.0.2.1\"]\nmax_fails = \"2\"",
		want: `weir.toml:3: upstream.corp.max_fails: is a string: write a whole number`},
	{name: "a fraction for a number", text: "[upstream.corp]\nservers = [\"192.0.2.1\"]\nmax_fails = 1.5",
		want: `weir.toml:3: upstream.corp.max_fails: is a fraction: write a whole number`},
	{name: "a date for a string", text: "[log]\nlevel = 2026-11-21",
		want: `weir.toml:2: log.level: is a date or time: write a string, such as "info"`},
	{name: "negative", text: "[filter.rules]\nfuel = -1",
		want: `weir.toml:2: filter.rules.fuel: is -1: write a number that is not below 0`},
	{name: "a bad size", text: "[filter.rules]\nmemory = \"32 megs\"",
		want: `weir.toml:2: filter.rules.memory: "32 megs" is not a size: write octets with a unit, such as 512KiB, 32MiB or 1GiB`},
	{name: "a value for a table", text: "log = \"debug\"",
		want: `weir.toml:1: log: is a string: write the table [log]`},
	{name: "a table for a list of tables", text: "[listener]\naddress = \"127.0.0.1:53\"\nchain = \"x\"", whole: true,
		want: `weir.toml:1: listener: is a table: write [[listener]], with two brackets, for each`},
	{name: "a list of tables for a table", text: "[[log]]\nlevel = \"info\"",
		want: `weir.toml:1: log: is a list: write the table [log], with single brackets`},
	{name: "a list of tables for a named one", text: "[[upstream.corp]]\nservers = [\"192.0.2.1\"]",
		want: `weir.toml:1: upstream.corp: is a list: write the table [upstream.corp], with single brackets`},
	{name: "keys without a name", text: "[cache]\npreset = \"coredns\"",
		want: `weir.toml:2: cache.preset: is a string: write [cache.NAME] above it, with a name of your choice`},
	{name: "a value for config", text: "[filter.rules]\nconfig = true",
		want: `weir.toml:2: filter.rules.config: is true: write the table [filter.rules.config]`},

	// Values of the top level.
	{name: "log level", text: "[log]\nlevel = \"loud\"\nformat = \"xml\"",
		want: "weir.toml:2: log.level: \"loud\" is not a level: write \"debug\", \"info\", \"warn\" or \"error\"\n" +
			`weir.toml:3: log.format: "xml" is not a format: write "auto", "text" or "json"`},
	{name: "admin address", text: "[admin]\naddress = \"localhost\"",
		want: `weir.toml:2: admin.address: "localhost" is not HOST:PORT, such as 127.0.0.1:9153`},
	{name: "budget of nothing", text: "budget = \"0s\"",
		want: `weir.toml:1: budget: is 0s: write a duration above 0s, and at most 30s; best is a little less than the timeout of the clients, often 2s`},
	{name: "budget too long", text: "budget = \"1m\"",
		want: `weir.toml:1: budget: is 1m0s: write a duration above 0s, and at most 30s; best is a little less than the timeout of the clients, often 2s`},
	{name: "negative drain", text: "drain = \"-1s\"",
		want: `weir.toml:1: drain: is -1s: write 0s to 5m`},
	{name: "private zone", text: "private_zones = [\"corp.example\", \"foo..bar\"]",
		want: `weir.toml:1: private_zones[1]: "foo..bar" has an empty label`},
	{name: "private zone twice", text: "private_zones = [\n  \"corp.example\",\n  \"Corp.Example.\",\n]",
		want: `weir.toml:3: private_zones[1]: "Corp.Example." is there twice, first in weir.toml:2`},
	{name: "policy of nothing", text: "[policy]\nmax_servers = 0",
		want: `weir.toml:2: policy.max_servers: is 0: write 1 to 1000`},
	{name: "policy turned round", text: "[policy]\nmin_sources = 4\nmax_sources = 3",
		want: `weir.toml:2: policy.min_sources: is 4, above max_sources, 3`},
	{name: "refused prefix", text: "[policy]\nrefuse_servers = [\"198.51.100.0/24\", \"amazon\", \"10.0.0.1/8\"]",
		want: "weir.toml:2: policy.refuse_servers[1]: \"amazon\" is not a prefix: write for example \"192.0.2.0/24\", an address, or one of alibaba-cloud\n" +
			`weir.toml:2: policy.refuse_servers[2]: "10.0.0.1/8" has bits set behind its length: write 10.0.0.0/8`},

	// Listeners.
	{name: "no listener", text: "[upstream.default]\nservers = [\"192.0.2.53\"]", whole: true,
		want: `weir.toml:1: listener: is missing: write at least one [[listener]], with address and chain`},
	{name: "empty file", text: "", whole: true,
		want: `weir.toml:1: listener: is missing: write at least one [[listener]], with address and chain`},
	{name: "listener without keys", text: "[[listener]]",
		want: "weir.toml:1: listener[0].address: is missing: write an address and a port, such as \"127.0.0.1:53\"\n" +
			`weir.toml:1: listener[0].chain: is missing: name the chain for the queries that come here`},
	{name: "address without a port", text: "[[listener]]\naddress = \"127.0.0.1\"\nchain = \"main\"",
		want: `weir.toml:2: listener[0].address: "127.0.0.1" is not an address and a port: write "127.0.0.1:53", "[::1]:53", ":53" or "unix:/run/weir/dns.sock"`},
	{name: "unknown protocol", text: "[[listener]]\naddress = \"127.0.0.1:53\"\nchain = \"main\"\nprotocols = [\"udp\", \"dot\"]",
		want: `weir.toml:4: listener[0].protocols: "dot" is not a protocol: write "udp", "tcp", "tls", "https" or "quic"`},
	{name: "address twice", text: "[[listener]]\naddress = \"127.0.0.1:53\"\nchain = \"main\"\n[[listener]]\naddress = \"127.0.0.1:53\"\nprotocols = [\"tcp\"]\nchain = \"main\"",
		want: `weir.toml:5: listener[1].address: 127.0.0.1:53 over tcp is the address of listener[0] too, in weir.toml:2: give each its own`},
	{name: "address of the admin server", text: "[admin]\naddress = \"127.0.0.1:5300\"",
		want: `weir.toml:2: admin.address: 127.0.0.1:5300 over tcp is the address of listener[0] too, in weir.toml:4: give each its own`},
	{name: "client prefix", text: "[[listener]]\naddress = \"127.0.0.1:53\"\nchain = \"main\"\n[[listener.scope]]\nclients = [\n  \"10.0.0.0/8\",\n  \"10.0.0.1/8\",\n  \"ten\",\n]\nchain = \"main\"",
		want: "weir.toml:7: listener[0].scope[0].clients[1]: \"10.0.0.1/8\" has bits set behind its length: write 10.0.0.0/8\n" +
			`weir.toml:8: listener[0].scope[0].clients[2]: "ten" is not a prefix or an address: write for example "10.0.0.0/8"`},
	{name: "client prefix twice", text: "[[listener]]\naddress = \"127.0.0.1:53\"\nchain = \"main\"\n[[listener.scope]]\nclients = [\"10.0.0.0/8\"]\nchain = \"main\"\n[[listener.scope]]\nclients = [\"192.0.2.1\", \"10.0.0.0/8\"]\nchain = \"main\"",
		want: `weir.toml:8: listener[0].scope[1].clients[1]: 10.0.0.0/8 is there twice, first in weir.toml:5`},
	{name: "scope without clients", text: "[[listener]]\naddress = \"127.0.0.1:53\"\nchain = \"main\"\n[[listener.scope]]\nchain = \"main\"",
		want: `weir.toml:4: listener[0].scope[0].clients: is empty: list prefixes such as "10.0.0.0/8"`},

	// Names of nothing.
	{name: "chain of a listener", text: "[[listener]]\naddress = \"127.0.0.1:53\"\nchain = \"mian\"",
		want: "weir.toml:3: listener[0].chain: there is no chain \"mian\": did you mean `main`?"},
	{name: "chain of a scope", text: "[[listener]]\naddress = \"127.0.0.1:53\"\nchain = \"main\"\nscope = [ { clients = [\"10.0.0.0/8\"], chain = \"inside\" } ]",
		want: `weir.toml:4: listener[0].scope[0].chain: there is no chain "inside": define it as [chain.inside], or write one of main`},
	{name: "upstream of a chain", text: "[chain.x]\nupstream = \"defualt\"",
		want: "weir.toml:2: chain.x.upstream: there is no upstream \"defualt\": did you mean `default`?"},
	{name: "filter of a chain", text: "[chain.x]\nfilters = [\"rules\"]\nupstream = \"default\"",
		want: `weir.toml:2: chain.x.filters[0]: there is no filter "rules": define it as [filter.rules]`},
	{name: "mistyped filter", text: "[chain.x]\nfilters = [\"rule\"]\nupstream = \"default\"\n[filter.rules]",
		want: "weir.toml:2: chain.x.filters[0]: there is no filter \"rule\": did you mean `rules`?"},
	{name: "cache of an upstream", text: "[cache.short]\n[upstream.corp]\nservers = [\"192.0.2.1\"]\ncache = \"shrot\"",
		want: "weir.toml:4: upstream.corp.cache: there is no cache \"shrot\": did you mean `short`?"},
	{name: "no cache at all", text: "[upstream.corp]\nservers = [\"192.0.2.1\"]\ncache = \"none\"",
		want: `weir.toml:3: upstream.corp.cache: there is no cache "none": define it as [cache.none], or write one of default`},
	{name: "a name with mistakes is still a name", text: "[chain.x]\nupstream = \"corp\"\n[upstream.corp]\nservers = 5",
		want: `weir.toml:4: upstream.corp.servers: is a whole number: write a list, such as ["192.0.2.53", "[2001:db8::53]:5353"]`},

	// Upstreams.
	{name: "upstream of nothing", text: "[upstream.corp]",
		want: `weir.toml:1: upstream.corp.servers: is empty: want at least one server, or resolv_conf`},
	{name: "clear text and TLS", text: "[upstream.corp]\nservers = [\n  \"tls://192.0.2.1#dns.example\",\n  \"192.0.2.2\",\n]",
		want: `weir.toml:2: upstream.corp.servers: some are asked in clear text, such as 192.0.2.2:53, and others are encrypted, such as 192.0.2.1:853: want one or the other, or two upstreams`},
	{name: "a pin that is none", text: "[upstream.corp]\nservers = [\"tls://192.0.2.1#dns.example\"]\npin = [\n  \"47DEQpj8\",\n]",
		want: `weir.toml:4: upstream.corp.pin[0]: "47DEQpj8" is not a pin: want sha256/ and the 44 characters of a hash in base64`},
	{name: "servers and resolv_conf", text: "[upstream.corp]\nservers = [\"192.0.2.1\"]\nresolv_conf = \"/etc/resolv.conf\"",
		want: `weir.toml:3: upstream.corp.resolv_conf: there are servers too, in weir.toml:2: delete one of them, or make two upstreams`},
	{name: "too many servers", text: "[upstream.corp]\nservers = [\"192.0.2.1\", \"192.0.2.2\", \"192.0.2.3\", \"192.0.2.4\", \"192.0.2.5\", \"192.0.2.6\", \"192.0.2.7\"]",
		want: `weir.toml:2: upstream.corp.servers: has 7 servers: want at most 6`},
	{name: "more servers than the policy says", text: "[policy]\nmax_servers = 1\n[upstream.corp]\nservers = [\"192.0.2.1\", \"192.0.2.2\"]",
		want: `weir.toml:4: upstream.corp.servers: has 2 servers: want at most 1`},
	{name: "refused server", text: "[policy]\nrefuse_servers = [\"alibaba-cloud\", \"198.51.100.7\"]\n[upstream.corp]\nservers = [\n  \"100.100.2.135\",\n  \"100.100.2.138:53\",\n  \"198.51.100.7\",\n  \"100.100.2.116\",\n]",
		want: "weir.toml:6: upstream.corp.servers[1]: 100.100.2.138:53 is in 100.100.2.138/32, which is refused\n" +
			"weir.toml:7: upstream.corp.servers[2]: 198.51.100.7:53 is in 198.51.100.7/32, which is refused\n" +
			`weir.toml:8: upstream.corp.servers[3]: 100.100.2.116:53 is in 100.100.2.116/31, which is refused`},
	{name: "server that is a listener", text: "[upstream.corp]\nservers = [\"192.0.2.1\", \"127.0.0.1:5300\"]",
		want: `weir.toml:2: upstream.corp.servers[1]: 127.0.0.1:5300 is a listener of weir itself: queries would go round in a loop`},
	{name: "server with a mistake in it", text: "[upstream.corp]\nservers = [\"192.0.2.256\"]",
		want: `weir.toml:2: upstream.corp.servers[0]: "192.0.2.256": want ADDRESS, ADDRESS:PORT or [IPV6]:PORT, or a host name for the address`},
	{name: "one source", text: "[upstream.corp]\nservers = [\"192.0.2.1\"]\nsources = [\"192.0.2.9\"]",
		want: `weir.toml:3: upstream.corp.sources: has 1 addresses: want 2 to 6, or none`},
	{name: "unknown policy", text: "[upstream.corp]\nservers = [\"192.0.2.1\"]\npolicy = \"roundrobin\"",
		want: `weir.toml:3: upstream.corp.policy: "roundrobin": want one of random, round_robin, sequential, fastest`},
	{name: "unknown transport", text: "[upstream.corp]\nservers = [\"192.0.2.1\"]\ntransport = \"tls\"",
		want: `weir.toml:3: upstream.corp.transport: "tls": want one of auto, udp, tcp; encryption is written with each server, such as "tls://192.0.2.1#dns.example"`},

	// The other parts.
	{name: "empty chain", text: "[chain.x]",
		want: `weir.toml:1: chain.x.upstream: is missing: without it and without filters, nothing answers`},
	{name: "filter twice in a chain", text: "[chain.x]\nfilters = [\n  \"rules\",\n  \"alternate\",\n  \"rules\",\n]\n[filter.rules]\n[filter.alternate]",
		want: `weir.toml:5: chain.x.filters[2]: "rules" is there twice, first in weir.toml:3: a query passes a filter once`},
	{name: "unknown precedence", text: "[chain.x]\nupstream = \"default\"\nprecedence = \"rule\"",
		want: `weir.toml:3: chain.x.precedence: "rule" is unknown: write "authority" or "rules"`},
	{name: "unknown preset", text: "[cache.x]\npreset = \"unbound\"",
		want: `weir.toml:2: cache.x.preset: "unbound" is not one of acs, coredns, nodelocal, weir`},
	{name: "limits of a cache", text: "[cache.x]\nsuccess = { min_ttl = \"10s\", max_ttl = \"5s\" }",
		want: `weir.toml:2: cache.x.success.min_ttl: 10s is above max_ttl, 5s`},
	{name: "interval of snapshots", text: "[cache.x]\nsnapshot = \"s\"\nsnapshot_interval = \"1500ms\"",
		want: `weir.toml:3: cache.x.snapshot_interval: 1.5s is not a whole number of seconds`},
	{name: "unknown on_error", text: "[filter.rules]\non_error = \"nxdomain\"",
		want: `weir.toml:2: filter.rules.on_error: "nxdomain" is unknown: write "servfail" or "skip"`},
	{name: "unknown grant", text: "[filter.rules]\ngrants = [\"forward\", \"files\"]",
		want: `weir.toml:2: filter.rules.grants[1]: "files" is not a grant: write one of forward, ask, rewrite, tables, log, metrics`},
	{name: "module without ending", text: "[filter.mine]\nmodule = \"./mine\"",
		want: `weir.toml:2: filter.mine.module: "./mine" is neither the name of a module that comes with weir nor a path: a path ends in .wasm`},
	{name: "table of nothing", text: "[table.x]",
		want: `weir.toml:1: table.x.zonefile: is missing: name a zone file, a hosts file, or a file with names or prefixes`},

	// Several.
	{name: "all at once", text: "budget = 2\n[log]\nlevel = \"loud\"\n[upstream.corp]\nservers = [\"192.0.2.256\"]\npolicy = \"best\"\ncash = \"short\"\n[chain.x]\nfilters = [\"nothing\"]\nupstream = \"corp\"",
		want: "weir.toml:1: budget: is a whole number: write a duration with its unit, such as \"2s\"\n" +
			"weir.toml:3: log.level: \"loud\" is not a level: write \"debug\", \"info\", \"warn\" or \"error\"\n" +
			"weir.toml:5: upstream.corp.servers[0]: \"192.0.2.256\": want ADDRESS, ADDRESS:PORT or [IPV6]:PORT, or a host name for the address\n" +
			"weir.toml:6: upstream.corp.policy: \"best\": want one of random, round_robin, sequential, fastest\n" +
			"weir.toml:7: upstream.corp.cash: is not a key: did you mean `case`?\n" +
			`weir.toml:9: chain.x.filters[0]: there is no filter "nothing": define it as [filter.nothing]`},

	// The environment.
	{name: "unknown variable", text: "", env: []string{"WEIR_LOGLEVEL=debug"},
		want: `WEIR_LOGLEVEL: weir.toml: has no LOGLEVEL: write one of LOG, ADMIN, BUDGET, DRAIN, LAMEDUCK, WATCH, PROCESS, WASM, POLICY, PRIVATE_ZONES, LISTENER, TABLE, CACHE, UPSTREAM, CHAIN, FILTER, and __ between the parts of a key, as in WEIR_LOG__LEVEL`},
	{name: "unknown key in a variable", text: "", env: []string{"WEIR_LOG__LEVLE=debug"},
		want: `WEIR_LOG__LEVLE: log: has no LEVLE: did you mean LEVEL?`},
	{name: "variable for a table that is not there", text: "", env: []string{"WEIR_UPSTREAM__CORP__SERVERS=192.0.2.1"},
		want: `WEIR_UPSTREAM__CORP__SERVERS: upstream: has no CORP, and a variable can't add it: write one of DEFAULT`},
	{name: "variable for a listener that is not there", text: "", env: []string{"WEIR_LISTENER__1__ADDRESS=127.0.0.1:53"},
		want: `WEIR_LISTENER__1__ADDRESS: listener: has no element 1: there are 1, counted from 0`},
	{name: "variable for a section that is not there", text: "", env: []string{"WEIR_CACHE__SHORT__PRESET=acs"},
		want: `WEIR_CACHE__SHORT__PRESET: cache: is not in the file: only tables that are there can be changed by variables`},
	{name: "variable for a table", text: "", env: []string{"WEIR_UPSTREAM__DEFAULT=192.0.2.1"},
		want: `WEIR_UPSTREAM__DEFAULT: upstream.default: is a table: a variable sets one key of it, as in WEIR_UPSTREAM__DEFAULT__KEY`},
	{name: "bad value in a variable", text: "", env: []string{"WEIR_BUDGET=soon", "WEIR_UPSTREAM__DEFAULT__PRIVATE=1", "WEIR_UPSTREAM__DEFAULT__MAX_FAILS=two"},
		want: "WEIR_BUDGET: budget: \"soon\" is not a duration: write a number and a unit, such as \"500ms\", \"10s\" or \"1h30m\"\n" +
			"WEIR_UPSTREAM__DEFAULT__MAX_FAILS: upstream.default.max_fails: \"two\": write a whole number\n" +
			`WEIR_UPSTREAM__DEFAULT__PRIVATE: upstream.default.private: "1": write true or false`},
	{name: "bad element in a variable", text: "", env: []string{"WEIR_UPSTREAM__DEFAULT__SERVERS=192.0.2.1, 192.0.2.256"},
		want: `WEIR_UPSTREAM__DEFAULT__SERVERS: upstream.default.servers[1]: "192.0.2.256": want ADDRESS, ADDRESS:PORT or [IPV6]:PORT, or a host name for the address`},
	{name: "two variables for one key", text: "", env: []string{"WEIR_LOG__LEVEL=info", "WEIR_log__level=debug"},
		want: `WEIR_log__level: log.level: sets what WEIR_LOG__LEVEL sets: delete one of them`},
	{name: "variable for two tables", text: "[upstream.a-b]\nservers = [\"192.0.2.1\"]\n[upstream.a_b]\nservers = [\"192.0.2.1\"]", env: []string{"WEIR_UPSTREAM__A_B__PRIVATE=true"},
		want: `WEIR_UPSTREAM__A_B__PRIVATE: upstream: A_B could be any of a-b, a_b: a variable can't tell them apart`},
	{name: "new key in a filter's configuration", text: "[filter.rules.config]\nmode = \"x\"", env: []string{"WEIR_FILTER__RULES__CONFIG__MODES=y"},
		want: `WEIR_FILTER__RULES__CONFIG__MODES: filter.rules.config: has no MODES: did you mean MODE?`},
	{name: "file and variable", text: "[log]\nlevel = \"loud\"", env: []string{"WEIR_DRAIN=1h"},
		want: "weir.toml:2: log.level: \"loud\" is not a level: write \"debug\", \"info\", \"warn\" or \"error\"\n" +
			`WEIR_DRAIN: drain: is 1h0m0s: write 0s to 5m`},
}

func TestMistakes(t *testing.T) {
	for _, tt := range mistakes {
		t.Run(tt.name, func(t *testing.T) {
			text := tt.text
			if !tt.whole {
				text += rest
			}
			_, err := Parse("weir.toml", []byte(text), tt.env)
			if err == nil {
				t.Fatalf("Parse(%q) took it", text)
			}
			if _, ok := errors.AsType[Errors](err); !ok {
				t.Errorf("Parse(%q) = %T, want Errors", text, err)
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("Parse of\n%s\n got %s\nwant %s", text, strings.ReplaceAll(got, "\n", "\n     "), strings.ReplaceAll(tt.want, "\n", "\n     "))
			}
		})
	}
}
