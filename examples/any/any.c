/* A filter for weir in C, with nothing but the contract, ../../abi/README.md: no SDK, no WASI, no C library. It answers queries of type
 * ANY with an HINFO record (RFC 8482 section 4.2), so that nobody gets large answers for small queries; all others go on.
 *
 *   clang --target=wasm32 -O2 -nostdlib -Wl,--no-entry -o any.wasm any.c
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

/* Section 8: the manifest, in a custom section. */
__asm__(".section .custom_section.weir,\"\",@\n"
        ".incbin \"filter.json\"\n");

/* Section 2: the frame. The host writes it before each call. The numbers are little-endian, as WebAssembly is. */
struct frame {
	u8 phase, flags, transport, attempt;
	u16 listener, scope;
	u16 qtype, qclass;
	u16 rcode, class_;
	u64 cookie;
	u16 port;
	u8 family, labels;
	u16 qname_size, ede;
	u8 address[16];
	u32 size;
	u16 question, upstream, limit, table, matched, zero;
	u32 value, value_size;
	u8 reserved[56];
	u8 qname[256];
	u8 message[65536];
};
_Static_assert(__builtin_offsetof(struct frame, value_size) == 68, "layout");
_Static_assert(__builtin_offsetof(struct frame, message) == 384, "layout");
_Static_assert(sizeof(struct frame) >= 65920, "layout");

static _Alignas(8) struct frame frame;

enum { FLAG_EXPLAIN = 1, TYPE_ANY = 255, CLASS_IN = 1 };

/* Section 5: a host function. It needs no grant. */
__attribute__((import_module("weir"), import_name("explain"))) void explain(const char *text, u32 size);

/* Section 1: the name of this export is the version of the contract; it says where the frame is. */
__attribute__((export_name("weir_abi_1"))) u32 weir_abi_1(void) { return (u32)&frame; }

/* The answer behind the question: HINFO, class IN, TTL 1 hour, "RFC8482" and an empty string. */
static const u8 answer[] = {
	0xC0, 12,               /* the owner: a pointer to the QNAME */
	0, 13, 0, 1,            /* HINFO, IN */
	0, 0, 0x0E, 0x10,       /* TTL */
	0, 9,                   /* RDLENGTH */
	7, 'R', 'F', 'C', '8', '4', '8', '2', 0,
};

/* Section 3: a verdict is verdict:8 | argument:8 | length:16 | offset:32. Zero is Next. */
static u64 respond(u32 size) { return 1ull << 56 | (u64)size << 32 | (u32)frame.message; }

__attribute__((export_name("query"))) u64 query(void) {
	static const char why[] = "ANY is answered with HINFO, RFC 8482";
	u32 i, end = frame.question;

	if (frame.qtype != TYPE_ANY || frame.qclass != CLASS_IN)
		return 0;
	/* The message is the client's query: it becomes the response in place. The host sets the ID and all bits but AA and RCODE. */
	frame.message[2] = 0x80 | (frame.message[2] & 1);
	frame.message[3] = 0;
	for (i = 4; i < 12; i++)
		frame.message[i] = i == 5 || i == 7; /* one question, one answer */
	for (i = 0; i < sizeof answer; i++)
		frame.message[end + i] = answer[i];
	if (frame.flags & FLAG_EXPLAIN)
		explain(why, sizeof why - 1);
	return respond(end + sizeof answer);
}
