package host

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/weirdns/weir/host/config"
	"github.com/weirdns/weir/host/wasm/wat"
)

// mistake is a kind of bad configuration: what to change in a good one, and files to write beside it.
type mistake struct {
	name   string
	change func(text string) string
	files  map[string]string
}

// place is the position that each line about a mistake begins with.
var place = regexp.MustCompile(`"?not reloaded: [^" ]+\.(toml|zone|list):\d+(:\d+)?: .{10,}`)

// bad has the server load what is wrong, and checks that it says so and goes on as before.
func (r *reloading) bad(t *testing.T, m mistake) {
	t.Helper()
	text, err := os.ReadFile(r.path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range m.files {
		r.write(name, text)
	}
	changed := m.change(string(text))
	if changed == string(text) {
		t.Fatalf("%s: changes nothing", m.name)
	}
	r.write("weir.toml", changed)
	before := r.number()
	f, err := config.Load(r.path, nil)
	if err == nil {
		err = r.Reload(t.Context(), f)
	}
	if err == nil {
		t.Fatalf("%s: was taken", m.name)
	}
	r.log.take()
	r.refused(err)
	lines := strings.Split(strings.TrimSpace(r.log.take()), "\n")
	for _, line := range lines {
		if !place.MatchString(line) {
			t.Errorf("%s: a line without its place: %s", m.name, line)
		}
	}
	if after := r.number(); after != before {
		t.Errorf("%s: generation %d serves, want %d", m.name, after, before)
	}
	r.write("weir.toml", string(text))
}

// badFiles are fifty kinds of mistakes and more.
func badFiles(r *reloading) []mistake {
	module := func(fields string) string { return string(wat.MustCompile("(module " + fields + ")")) }
	manifest := func(text string) string {
		return fmt.Sprintf("(@custom \"weir\" %q)", text)
	}
	const (
		frame = `(memory (export "memory") 2) (func (export "weir_abi_1") (result i32) (i32.const 1024)) `
		query = `(func (export "query") (result i64) (i64.const 0)) `
	)
	good := manifest(`{"name":"m","version":"1.0.0","abi":1}`)
	var all []mistake
	replace := func(name, old, new string) {
		all = append(all, mistake{name, func(text string) string { return strings.Replace(text, old, new, 1) }, nil})
	}
	add := func(name, more string) {
		all = append(all, mistake{name, func(text string) string { return text + more }, nil})
	}
	wasm := func(name, octets, more string) {
		all = append(all, mistake{name, func(text string) string {
			return strings.Replace(text, `filters = [`, `filters = ["m", `, 1) + "[filter.m]\nmodule = \"m.wasm\"\n" + more
		}, map[string]string{"m.wasm": octets}})
	}
	table := func(name, section, file, text string) {
		all = append(all, mistake{name, func(s string) string { return s + "[table.other]\n" + section + "\n" }, map[string]string{file: text}})
	}

	replace("not TOML", "[upstream.up]", "[upstream.up")
	replace("an unknown key", "chain = \"main\"", "chian = \"main\"")
	replace("an unknown table", "[upstream.up]", "[upstraem.up]")
	replace("a wrong type", "protocols = [\"udp\", \"tcp\"]", "protocols = 53")
	replace("an unknown protocol", "\"udp\", \"tcp\"", "\"udp\", \"carrier-pigeon\"")
	replace("no address", r.addr, "")
	replace("a bad address", r.addr, "127.0.0.1:domain")
	replace("a port that there isn't", r.addr, "127.0.0.1:99999")
	replace("a chain that there isn't", "chain = \"main\"", "chain = \"other\"")
	replace("an upstream that there isn't", "upstream = \"up\"\n[filter", "upstream = \"down\"\n[filter")
	replace("a filter that there isn't", "\"rules\"]", "\"rule\"]")
	replace("a filter twice", "\"rules\"]", "\"rules\", \"rules\"]")
	replace("a key twice", "chain = \"main\"", "chain = \"main\"\nchain = \"main\"")
	replace("a table twice", "[filter.rules.config]", "[upstream.up]\nservers = [\"192.0.2.1\"]\n[filter.rules.config]")
	replace("no server", "servers = [", "servers = [] # ")
	replace("a server that is no address", r.up, "ns1.example:53x")
	replace("weir as its own server", r.up, r.addr)
	replace("a policy that there isn't", "servers = [", "policy = \"best\"\nservers = [")
	replace("a negative number", "servers = [", "expire = \"-1s\"\nservers = [")
	replace("a duration without a unit", "servers = [", "read_timeout = \"2\"\nservers = [")
	replace("a cache that there isn't", "servers = [", "cache = \"big\"\nservers = [")
	replace("a transport that there isn't", "servers = [", "transport = \"pigeon\"\nservers = [")
	replace("a CA without a file", "servers = [", "ca = \"ca.pem\"\nservers = [\"tls://192.0.2.1\"] # ")
	replace("a name in clear text", r.up, r.up+"#dns.example")
	replace("a zone that is no name", "\"blocked.test\"", "\"blocked..test\"")
	replace("a zone twice", "{ zone = \"blocked.test\"", "{ zone = \"BLOCKED.test.\", drop = true }, { zone = \"blocked.test\"")
	replace("an RCODE that there isn't", "\"REFUSED\"", "\"REFUSE\"")
	replace("a rule that does nothing", "rcode = \"NXDOMAIN\"", "")
	replace("a rule that does two things", "rcode = \"NXDOMAIN\"", "rcode = \"NXDOMAIN\", drop = true")
	replace("a rule for an upstream that there isn't", "rcode = \"NXDOMAIN\"", "upstream = \"nowhere\"")
	replace("an EDE that there isn't", "rcode = \"REFUSED\", ede = ", "rcode = \"REFUSED\", ede = 7000")
	replace("an EDE without a response", "rcode = \"NXDOMAIN\"", "drop = true, ede = 15")
	replace("a key that the filter has not", "[filter.rules.config]", "[filter.rules.config]\nspeed = \"fast\"")
	replace("a table that there isn't", "zones = [\"held", "zones = [\"hold")
	replace("no fuel to speak of", "[filter.rules.config]", "[filter.rules]\nfuel = 1\n[filter.rules.config]")
	replace("no memory to speak of", "[filter.rules.config]", "[filter.rules]\nmemory = \"1KiB\"\n[filter.rules.config]")
	replace("an on_error that there isn't", "[filter.rules.config]", "[filter.rules]\non_error = \"panic\"\n[filter.rules.config]")
	replace("a grant that nobody wants", "[filter.rules.config]", "[filter.rules]\ngrants = [\"ask\"]\n[filter.rules.config]")
	all = append(all, mistake{"a filter that nothing reaches", func(text string) string {
		text = strings.Replace(text, `"authority", "rules"`, `"rules", "authority"`, 1)
		return strings.Replace(text, `{ zone = "blocked.test"`, `{ zone = ".", drop = true }, { zone = "blocked.test"`, 1)
	}, nil})
	replace("a scope that is no prefix", "chain = \"main\"\n", "chain = \"main\"\nscope = [ { clients = [\"10.0.0.0/33\"], chain = \"main\" } ]\n")
	replace("a log level that there isn't", "[[listener]]", "[log]\nlevel = \"loud\"\n[[listener]]")
	replace("a budget of nothing", "[[listener]]", "budget = \"0s\"\n[[listener]]")
	add("a cache of negative size", "[cache.default]\nsuccess = { capacity = -1 }\n")
	add("a preset that there isn't", "[cache.default]\npreset = \"huge\"\n")
	table("a zone file that there isn't", `zonefile = "missing.zone"`, "unused.txt", "")
	table("a zone file with a mistake", `zonefile = "bad.zone"`, "bad.zone", "$ORIGIN bad.test.\n@ 300 IN SOA ns hostmaster 1 2 3 4 5\nwww 300 IN A 192.0.2.256\n")
	table("a zone without SOA", `zonefile = "bad.zone"`, "bad.zone", "$ORIGIN bad.test.\nwww 300 IN A 192.0.2.1\n")
	table("a list with a mistake", `names = "bad.list"`, "bad.list", "good.test\nbad..test\n")
	table("prefixes with a mistake", `prefixes = "bad.list"`, "bad.list", "192.0.2.0/24 office\n192.0.2.0/240 home\n")
	table("a table with two sources", "zonefile = \"a.zone\"\nnames = \"b.list\"", "unused.txt", "")
	wasm("no module", "this is no module", "")
	wasm("half a module", module(frame + query + good)[:60], "")
	wasm("a module without a manifest", module(frame+query), "")
	wasm("a module of another ABI", module(frame+query+manifest(`{"name":"m","version":"1.0.0","abi":7}`)), "")
	wasm("a module without a frame", module(`(memory (export "memory") 2) `+query+good), "")
	wasm("a module that decides nothing", module(frame+good), "")
	wasm("a wrong signature", module(frame+`(func (export "query") (result i32) (i32.const 0)) `+good), "")
	wasm("an import that there isn't", module(`(import "weir" "launch" (func)) `+frame+query+good), "")
	wasm("a trap at the start", module(frame+query+good+`(func $start unreachable) (start $start)`), "")
	wasm("an endless start", module(frame+query+good+`(func $start (loop $l (br $l))) (start $start)`), "")
	wasm("a frame outside the memory", module(`(memory (export "memory") 2) (func (export "weir_abi_1") (result i32) (i32.const 131064)) `+query+good), "")
	wasm("a grant that is not given", module(frame+query+manifest(`{"name":"m","version":"1.0.0","abi":1,"grants":["ask"]}`)), "")
	wasm("a configuration for a filter that has none", module(frame+query+good), "[filter.m.config]\nspeed = 3\n")
	all = append(all, mistake{"a module that there isn't", func(text string) string {
		return strings.Replace(text, `filters = [`, `filters = ["m", `, 1) + "[filter.m]\nmodule = \"missing.wasm\"\n"
	}, nil})
	return all
}

// Each kind of mistake by itself, on an idle server; a port that somebody else has is one, too.
func TestReloadMistakes(t *testing.T) {
	r := startReloading(t)
	all := badFiles(r)
	if len(all) < 50 {
		t.Errorf("%d kinds of mistakes, want 50", len(all))
	}
	for _, m := range all {
		t.Run(m.name, func(t *testing.T) { r.bad(t, m) })
	}
	t.Run("a port that is taken", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		text, err := os.ReadFile(r.path)
		if err != nil {
			t.Fatal(err)
		}
		r.write("taken.toml", fmt.Sprintf("%s[[listener]]\naddress = %q\nprotocols = [\"tcp\"]\nchain = \"main\"\n", text, l.Addr()))
		f, err := config.Load(filepath.Join(filepath.Dir(r.path), "taken.toml"), nil)
		if err != nil {
			t.Fatal(err)
		}
		err = r.Reload(t.Context(), f)
		if err == nil || !strings.Contains(err.Error(), "taken.toml:18: ") || !strings.Contains(err.Error(), "in use") || r.number() != 1 {
			t.Errorf("got %v, generation %d", err, r.number())
		}
	})
	if err := r.reload(1); err != nil {
		t.Errorf("after all of them: %v", err)
	}
}
