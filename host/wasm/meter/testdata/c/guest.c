// The C guest of the metering tests: the same kinds of work as the Go guest, without a library.
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define EXPORT(name) __attribute__((export_name(name)))

static u32 rotate(u32 x, int n) { return x >> n | x << (32 - n); }

// hash has the rounds of SHA-256 over n zero octets, with constants of its own.
EXPORT("hash") u64 hash(u32 n) {
	u32 k[64], h[8], w[64];
	u64 x = 7;
	for (int i = 0; i < 64; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		k[i] = (u32)x;
		h[i % 8] = (u32)(x >> 32);
	}
	for (u64 at = 0, blocks = (n + 9 + 63) / 64; at < blocks; at++) {
		for (int i = 0; i < 16; i++)
			w[i] = 0;
		if (at == n / 64)
			w[n % 64 / 4] = 0x80000000u >> (n % 4 * 8);
		if (at == blocks - 1)
			w[15] = n * 8;
		for (int i = 16; i < 64; i++) {
			u32 a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
			u32 b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
			w[i] = w[i - 16] + a + w[i - 7] + b;
		}
		u32 v[8];
		for (int i = 0; i < 8; i++)
			v[i] = h[i];
		for (int i = 0; i < 64; i++) {
			u32 s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
			u32 t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
			u32 s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
			u32 t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
			for (int j = 7; j > 0; j--)
				v[j] = v[j - 1];
			v[4] += t1;
			v[0] = t1 + t2;
		}
		for (int i = 0; i < 8; i++)
			h[i] += v[i];
	}
	return (u64)h[0] << 32 | h[1];
}

static u64 values[4096];

static void quicksort(int from, int to) {
	while (from < to) {
		u64 pivot = values[(from + to) / 2];
		int i = from, j = to;
		while (i <= j) {
			while (values[i] < pivot)
				i++;
			while (values[j] > pivot)
				j--;
			if (i <= j) {
				u64 v = values[i];
				values[i++] = values[j];
				values[j--] = v;
			}
		}
		quicksort(from, j);
		from = i;
	}
}

EXPORT("sort") u64 sort(u32 n) {
	u64 x = 42, checksum = 0;
	n = n < 4096 ? n : 4096;
	for (u32 i = 0; i < n; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		values[i] = x;
	}
	quicksort(0, (int)n - 1);
	for (u32 i = 0; i < n; i++)
		checksum = (checksum * 31 + values[i]) ^ i;
	return checksum;
}

EXPORT("search") u64 search(u32 n) {
	static u8 text[8192];
	const char *needle = "fox jumps";
	for (u32 i = 0; i < sizeof text; i++)
		text[i] = (u8) "the quick brown fox "[i % 20];
	for (u32 at = n % 8000, i = 0; needle[i]; i++)
		text[at + i] = (u8)needle[i];
	for (u32 at = 0; at < sizeof text - 9; at++) {
		u32 i = 0;
		while (needle[i] && text[at + i] == (u8)needle[i])
			i++;
		if (!needle[i])
			return at;
	}
	return ~0ull;
}

EXPORT("floats") u64 floats(u32 n) {
	union { double d; u64 u; } sum = {0};
	for (u32 i = 0; i < n; i++) {
		double x = i + 0.5;
		sum.d += __builtin_sqrt(x) / __builtin_floor(x + 1) - (double)(float)x * 1e-3;
	}
	return sum.u;
}

EXPORT("recurse") u64 recurse(u32 n) { return n < 2 ? n : recurse(n - 1) + recurse(n - 2); }

static u64 add(u64 a) { return a + 3; }
static u64 multiply(u64 a) { return a * 5; }
static u64 (*volatile steps[2])(u64) = {add, multiply};

EXPORT("pointers") u64 pointers(u32 n) {
	u64 x = 1;
	for (u32 i = 0; i < n; i++)
		x = steps[i & 1](x);
	return x;
}
