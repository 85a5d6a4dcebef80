//! A component of another world: a command line program, which exports no handler.

fn main() {
    println!("no plugin");
}
