//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/weirdns/weir/host/internal/bench/attack"
)

const (
	// spoofGoal is how many forged responses have to be sent without one being taken. What a run sends of it is printed.
	spoofGoal = 1e9
	// spoofEntropy is how many bits of a query somebody beside the path has to guess, at least.
	spoofEntropy = 30
)

// benchSpoof has somebody forge the responses of a slow upstream, who doesn't see the queries.
func benchSpoof(o *options) error {
	fmt.Fprint(o.out, "\nspoof: forged responses of an upstream that takes 300 ms, as many as somebody beside the path can send, for the names that are asked for\n\n")
	if os.Geteuid() != 0 {
		fmt.Fprintln(o.out, "skipped: a raw socket needs root")
		return nil
	}
	up, nx, err := startUpstreams()
	if err != nil {
		return err
	}
	defer up.stop()
	defer nx.stop()
	p, err := choosePorts(o.dir, weirName, up, nx)
	if err != nil {
		return err
	}
	if p.Hole, err = freePort(); err != nil {
		return err
	}
	args := append([]string{"spoof"}, attack.SpoofArgs(p.Port, p.Hole, time.Duration(o.seconds)*time.Second)...)
	cmd := command(generatorCPU, "/proc/self/exe", args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	said := bufio.NewReader(out)
	spoofer, err := launch("spoof", cmd)
	if err != nil {
		return err
	}
	defer spoofer.stop()
	if _, err := said.ReadString('\n'); err != nil {
		return fmt.Errorf("spoof: %w", err)
	}
	if _, err := writeZone(o.dir, weirName, "test", hotNames); err != nil {
		return err
	}
	if err := writeCertificate(o.dir); err != nil {
		return err
	}
	s, err := startWeir(o, p, serverCPU, "weir.toml", p)
	if err != nil {
		return err
	}
	defer s.stop()
	if _, err := in.Write([]byte("\n")); err != nil {
		return err
	}
	var got attack.Spoofed
	if err := json.NewDecoder(said).Decode(&got); err != nil {
		return fmt.Errorf("spoof: %w", err)
	}
	metrics, err := metricsOf(s)
	if err != nil {
		return err
	}
	bits := math.Log2(float64(got.Ports) * 65536)
	fmt.Fprintf(o.out, "a response forged with the port and ID of its query, to see that they are good but for these: taken: %v\n", got.Control)
	fmt.Fprintf(o.out, "%d forged in %.0f s, %.0f a second, for %d ports and all IDs: %.4f of the %.0e that are the goal\n", got.Sent, got.Seconds, float64(got.Sent)/got.Seconds, got.Ports,
		float64(got.Sent)/spoofGoal, spoofGoal)
	fmt.Fprintf(o.out, "%d queries, %d answered with the truth; %d asked over UDP, and %d over TCP, when 8 responses had another ID; responses that met a port of weir: %.0f\n",
		got.Queries, got.Answered, got.Upstream, got.OverTCP, metrics[fmt.Sprintf(`weir_upstream_mismatches_total{server="127.0.0.1:%d",upstream="hole"}`, p.Hole)])
	fmt.Fprintf(o.out, "taken by weir: %d, target 0: %s; one of them is for a query that waits with 2^-%.1f at most, target 2^-%d: %s; %.4f were to be expected\n",
		got.Accepted, verdict(got.Control && got.Accepted == 0 && got.Answered > 0), bits, spoofEntropy, verdict(bits >= spoofEntropy), float64(got.Sent)/math.Exp2(bits))
	return nil
}
