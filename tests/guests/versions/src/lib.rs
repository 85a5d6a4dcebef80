//! Answers with its version: a test writes a number and a fault into the built component.

#![allow(
    clippy::disallowed_methods,
    reason = "a guest has one thread, and to hold it is what a test asks for"
)]

use std::{thread, time::Duration};

use lockgate_plugin::{Event, Handler, Message, Result, context};

mod contract {
    wit_bindgen::generate!({ path: "../../../wit", world: "self-tested" });
}

/// `tests/src/versions.rs` finds these marks in the component, and replaces the digits and the letter.
static MARK: [u8; 22] = *b"@lockgate-version:0000";
static LETTER: [u8; 19] = *b"@lockgate-letter:-@";

/// Reads the text from the running component, so that the compiler cannot assume its value.
fn read<const N: usize>(text: &'static [u8; N]) -> [u8; N] {
    // SAFETY: a reference can be read.
    unsafe { std::ptr::read_volatile(text) }
}

fn version() -> u32 {
    str::from_utf8(&read(&MARK)[18..]).unwrap().parse().unwrap()
}

fn fault() -> u8 {
    read(&LETTER)[17]
}

/// Runs when an instance is made.
extern "C" fn begin() {
    if fault() == b'b' {
        panic!("it does not begin");
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

fn spin() -> ! {
    loop {
        thread::yield_now();
    }
}

struct Versions;

impl Handler for Versions {
    fn message(_: Event, message: Message) -> Result<Option<Message>> {
        let first = version();
        let text = message.as_text().unwrap_or_default();
        if fault() == b't' || text == "trap" {
            panic!("it traps");
        }
        if fault() == b'm' {
            spin();
        }
        if let Some(time) = text.strip_prefix("wait ") {
            thread::sleep(Duration::from_millis(time.parse()?));
        }
        if let Some(name) = text.strip_prefix("variable ") {
            let value = context::variable(name).unwrap_or_default();
            return Ok(Some(format!("{first} {value}").into()));
        }
        Ok(Some(format!("{first} {} {text}", version()).into()))
    }
}

lockgate_plugin::export!(Versions);

impl contract::exports::lockgate::plugin::self_test::Guest for Versions {
    fn run() -> std::result::Result<(), String> {
        match fault() {
            b'f' => {
                eprint!("two and two is five"); // without a newline
                Err("the sums are wrong".into())
            }
            b's' => spin(),
            b'p' => panic!("it does not work"),
            _ => Ok(()),
        }
    }
}

contract::export!(Versions with_types_in contract);
