//! The Rust guest of the metering tests: the same kinds of work as the Go guest, with the standard library.
use std::collections::HashMap;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// FNV-1a over n octets, and then over its own states.
#[no_mangle]
pub extern "C" fn hash(n: u32) -> u64 {
    let octets: Vec<u8> = (0..n).map(|i| (i * 7) as u8).collect();
    octets
        .iter()
        .fold(0xcbf29ce484222325, |h, o| (h ^ u64::from(*o)).wrapping_mul(0x100000001b3))
}

#[no_mangle]
pub extern "C" fn sort(n: u32) -> u64 {
    let mut random = Random(42);
    let mut values: Vec<u64> = (0..n).map(|_| random.next()).collect();
    values.sort();
    values.iter().enumerate().fold(0, |c: u64, (i, v)| c.wrapping_mul(31).wrapping_add(*v) ^ i as u64)
}

#[no_mangle]
pub extern "C" fn search(n: u32) -> u64 {
    let text = "the quick brown fox ".repeat(n as usize) + "jumps over";
    (text.find("fox jumps").unwrap_or(0) as u64) << 32 | text.matches("own").count() as u64
}

#[no_mangle]
pub extern "C" fn floats(n: u32) -> u64 {
    (0..n)
        .map(|i| f64::from(i) + 0.5)
        .map(|x| x.sqrt() * x.sin() / (x + 1.0).floor())
        .sum::<f64>()
        .to_bits()
}

#[no_mangle]
pub extern "C" fn recurse(n: u32) -> u64 {
    if n < 2 {
        return n.into();
    }
    recurse(n - 1) + recurse(n - 2)
}

/// Words and how often they occur, through a map, trait objects and formatting.
#[no_mangle]
pub extern "C" fn pointers(n: u32) -> u64 {
    let mut count: HashMap<String, u64> = HashMap::new();
    let steps: [Box<dyn Fn(u32) -> String>; 2] = [Box::new(|i| format!("a{}", i % 10)), Box::new(|i| format!("{:x}", i % 7))];
    for i in 0..n {
        *count.entry(steps[i as usize & 1](i)).or_default() += u64::from(i);
    }
    count.values().fold(0, |a, b| a ^ b.wrapping_mul(0x9e3779b97f4a7c15))
}
