package meter

// graph is the call graph. Its nodes are the functions and, after them, the signatures of indirect calls: a
// call_indirect may reach each function of its signature that someone has a reference to.
type graph struct {
	funcs []*function // nil for imported ones
	edges [][]int32
}

// stackUse is what the call graph says about the native stack.
type stackUse struct {
	cyclic []bool // by function: it can be on the stack more than once
	count  int    // how many are
	static int64  // octets of the other functions' frames along the longest path
}

func (m *module) graph(funcs []*function) *graph {
	n := len(m.funcs)
	g := &graph{funcs: funcs, edges: make([][]int32, n)}
	nodes := make(map[signature]int32)
	node := func(t uint32) int32 {
		s := m.types[t]
		i, ok := nodes[s]
		if !ok {
			i = int32(len(g.edges))
			nodes[s] = i
			g.edges = append(g.edges, nil)
		}
		return i
	}
	for i, f := range funcs {
		if f == nil {
			continue
		}
		for _, callee := range f.calls {
			g.edges[i] = append(g.edges[i], int32(callee))
		}
		for _, t := range f.indirect {
			s := node(t)
			g.edges[i] = append(g.edges[i], s)
		}
	}
	for i, t := range m.funcs {
		if m.escaped[i] {
			s := node(t)
			g.edges[s] = append(g.edges[s], int32(i))
		}
	}
	return g
}

// stack finds the strongly connected components (Tarjan's algorithm, with a stack of its own since the graph's depth
// is the module's to choose). A component is finished after all that it leads to, so the longest path is found along
// the way.
func (g *graph) stack() stackUse {
	n := len(g.edges)
	use := stackUse{cyclic: make([]bool, len(g.funcs))}
	number := make([]int32, n) // 0: not seen
	low := make([]int32, n)
	onPath := make([]bool, n)
	depth := make([]int64, n)
	var path []int32
	type visit struct {
		node int32
		edge int
	}
	var visits []visit
	last := int32(0)
	for root := range n {
		if number[root] != 0 {
			continue
		}
		visits = append(visits, visit{node: int32(root)})
		for len(visits) > 0 {
			v := &visits[len(visits)-1]
			i := v.node
			if v.edge == 0 {
				last++
				number[i], low[i] = last, last
				path = append(path, i)
				onPath[i] = true
			}
			if v.edge < len(g.edges[i]) {
				j := g.edges[i][v.edge]
				v.edge++
				switch {
				case number[j] == 0:
					visits = append(visits, visit{node: j})
				case onPath[j]:
					low[i] = min(low[i], number[j])
				}
				continue
			}
			visits = visits[:len(visits)-1]
			if len(visits) > 0 {
				p := visits[len(visits)-1].node
				low[p] = min(low[p], low[i])
			}
			if low[i] == number[i] {
				start := len(path) - 1
				for path[start] != i {
					start--
				}
				g.finish(path[start:], onPath, depth, &use)
				path = path[:start]
			}
		}
	}
	return use
}

// finish handles a component.
func (g *graph) finish(component []int32, onPath []bool, depth []int64, use *stackUse) {
	cyclic := len(component) > 1
	below := int64(0)
	for _, i := range component {
		for _, j := range g.edges[i] {
			cyclic = cyclic || j == i
			below = max(below, depth[j]) // 0 within the component: not set before its end
		}
	}
	for _, i := range component {
		onPath[i] = false
		d := below
		if int(i) < len(g.funcs) && g.funcs[i] != nil {
			if cyclic {
				use.cyclic[i] = true
				use.count++
			} else {
				d += g.funcs[i].frame()
			}
		}
		depth[i] = d
		use.static = max(use.static, d)
	}
}
