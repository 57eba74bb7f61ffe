// The AssemblyScript guest of the metering tests: the same kinds of work as the Go guest.

export function hash(n: u32): u64 {
  let h: u64 = 0xcbf29ce484222325;
  for (let i: u32 = 0; i < n; i++) h = (h ^ u64(<u8>(i * 7))) * 0x100000001b3;
  return h;
}

export function sort(n: u32): u64 {
  let x: u64 = 42;
  const values = new Array<u64>();
  for (let i: u32 = 0; i < n; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    values.push(x);
  }
  values.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  let checksum: u64 = 0;
  for (let i = 0; i < values.length; i++) checksum = (checksum * 31 + values[i]) ^ i;
  return checksum;
}

export function search(n: u32): u64 {
  const text = "the quick brown fox ".repeat(n) + "jumps over";
  return ((<u64>text.indexOf("fox jumps")) << 32) | (text.split("own").length - 1);
}

export function floats(n: u32): u64 {
  let sum: f64 = 0;
  for (let i: u32 = 0; i < n; i++) {
    const x = <f64>i + 0.5;
    sum += (Math.sqrt(x) * Math.sin(x)) / Math.floor(x + 1);
  }
  return reinterpret<u64>(sum);
}

export function recurse(n: u32): u64 {
  return n < 2 ? n : recurse(n - 1) + recurse(n - 2);
}

export function pointers(n: u32): u64 {
  const count = new Map<string, u64>();
  for (let i: u32 = 0; i < n; i++) {
    const word = "w" + (i % 13).toString();
    count.set(word, (count.has(word) ? count.get(word) : 0) + i);
  }
  let sum: u64 = 0;
  const words = count.keys();
  for (let i = 0; i < words.length; i++) sum = sum * 31 + count.get(words[i]);
  return sum;
}
