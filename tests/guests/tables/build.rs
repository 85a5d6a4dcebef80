//! Rust cannot grow a table, but its linker can begin one far up.

fn main() {
    println!("cargo::rustc-link-arg=--table-base=20000");
}
