//! Takes more than it should, in the way and as often as its message says: `posts 257`. The result is the answer, where
//! there can be one. A binary message has the arguments of arbitrary calls.
//!
//! The guest `probe` shows a handler's view, and does simple harm, too; the harm here takes more than one line.

#![allow(
    clippy::disallowed_methods,
    reason = "a guest has one thread, and to hold it is what a test asks for"
)]

mod arbitrary;
mod canary;
mod wasi;

use std::{
    hint::black_box,
    io::{Write, stderr, stdout},
    thread,
    time::Duration,
};

use lockgate_plugin::{Error, Event, Handler, Message, Result, connections, groups};

/// The time for which `hide slowly` and `find slowly` hold their instance.
const SLOWLY: Duration = Duration::from_millis(1_500);

struct Hostile;

impl Handler for Hostile {
    fn message(event: Event, message: Message) -> Result<Option<Message>> {
        let Some(text) = message.as_text() else {
            let calls = arbitrary::calls(&event.connection_id, message.as_bytes());
            return Ok(Some(calls.into()));
        };
        let number = text
            .rsplit_once(' ')
            .and_then(|(what, times)| Some((what, times.parse().ok()?)));
        let (what, times) = number.unwrap_or((text, 0));
        act(&event.connection_id, what, times).map(|answer| Some(answer.into()))
    }
}

lockgate_plugin::export!(Hostile);

fn act(own: &str, what: &str, times: u64) -> Result<String> {
    let size = times as usize;
    Ok(match what {
        "spin" => spin(),
        "trap" => panic!("as told"),
        // Memory.
        "hog" => hog(),
        "copy" => copy(),
        "fill" => fill(),
        "hide" => {
            canary::hide(times);
            "hidden".to_owned()
        }
        "find" => canary::find(times).to_string(),
        // Holds the instance, so that other calls have to take other ones.
        "hide slowly" => {
            canary::hide(times);
            thread::sleep(SLOWLY);
            "hidden".to_owned()
        }
        "find slowly" => {
            let found = canary::find(times);
            thread::sleep(SLOWLY);
            found.to_string()
        }
        "descend" => descend(0).to_string(),
        // Large values in one call of the gateway.
        "return" => "x".repeat(size),
        // SAFETY: none; the gateway has to detect that this is no text.
        "return no text" => unsafe { String::from_utf8_unchecked(vec![0xff; 16]) },
        "fail" => return Err("x".repeat(size).into()),
        "forge" => return Err("honest\n2026-01-01 INFO forged \u{1b}[2J".into()),
        "send" => text(connections::send(own, "x".repeat(size))),
        "send to" => text(connections::send(&"x".repeat(size), "x")),
        "join" => text(groups::join(&"g".repeat(size), own)),
        "reason" => text(connections::close(own, 4000, &"x".repeat(size))),
        "attribute" => text(connections::set_attribute(own, "a", &"x".repeat(size))),
        "random" => wasi::get_random_bytes(times).len().to_string(),
        // The same call over and over.
        "posts" => until_refused(times, |_| connections::send(own, "x")),
        "publishes" => until_refused(times, |_| groups::publish("nobody", "x").map(drop)),
        "joins" => until_refused(times, |number| groups::join(&format!("g{number}"), own)),
        "attributes" => until_refused(times, |number| {
            connections::set_attribute(own, &format!("{number:04}"), &"x".repeat(124))
        }),
        "handles" => handles(times),
        "calls" => loop {
            drop(black_box(groups::count("nobody")));
        },
        "sleep" => {
            thread::sleep(Duration::from_millis(times));
            "slept".to_owned()
        }
        // The log.
        "chunks" => chunks(size),
        "escapes" => escapes(size),
        "short lines" => short_lines(size),
        unknown => return Err(format!("no such deed: {unknown}").into()),
    })
}

fn spin() -> ! {
    loop {
        black_box(());
    }
}

/// Allocates mebibyte by mebibyte, and writes to each.
fn hog() -> ! {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1u8; 1 << 20]));
    }
}

/// Copies half of its maximum memory to and fro for ever, each time by one instruction.
fn copy() -> ! {
    let mut bytes = vec![1u8; 48 << 20];
    let half = bytes.len() / 2;
    loop {
        bytes.copy_within(..half, half);
        black_box(&mut bytes).copy_within(half.., 0);
    }
}

fn fill() -> ! {
    let mut bytes = vec![1u8; 48 << 20];
    loop {
        black_box(&mut bytes).fill(0);
        black_box(&mut bytes).fill(255);
    }
}

/// Calls the gateway at every depth, until the stack is used up.
#[expect(unconditional_recursion, reason = "that is the fault")]
fn descend(depth: u32) -> u32 {
    let frame = black_box([depth; 64]);
    let count = groups::count("nobody").unwrap_or_default();
    descend(depth + 1) + count + frame[black_box(1)]
}

/// Makes timers, and drops none.
fn handles(times: u64) -> String {
    let held: Vec<_> = (0..times)
        .map(|_| wasi::subscribe_duration(3_600_000_000_000))
        .collect();
    black_box(&held).len().to_string()
}

fn chunks(times: usize) -> String {
    let chunk = "x".repeat(4_096);
    for _ in 0..times {
        let _ = stdout().write_all(chunk.as_bytes());
        let _ = stdout().flush();
    }
    times.to_string()
}

/// Prints control sequences of terminals, on both streams.
fn escapes(times: usize) -> String {
    for _ in 0..times {
        let _ = writeln!(stdout(), "\u{1b}[2J\u{1b}]0;owned\u{7}\r\u{9b}31m");
        let _ = writeln!(stderr(), "\u{1b}[8m\u{8}\u{0}\u{7f}\u{85}\u{1b}c");
    }
    times.to_string()
}

fn short_lines(times: usize) -> String {
    let lines = "x\n".repeat(times);
    let _ = stdout().write_all(lines.as_bytes());
    times.to_string()
}

/// Repeats a call until it fails, and returns the number of successes and the error.
fn until_refused(times: u64, act: impl Fn(u64) -> Result<(), Error>) -> String {
    for number in 0..times {
        if let Err(error) = act(number) {
            return format!("{number} {}", word(&error));
        }
    }
    format!("{times} ok")
}

fn text(result: Result<(), Error>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(error) => word(&error).to_owned(),
    }
}

fn word(error: &Error) -> &'static str {
    match error {
        Error::Gone => "gone",
        Error::Busy => "busy",
        Error::TooLarge => "too-large",
        Error::Denied => "denied",
        Error::Unreachable => "unreachable",
        Error::Invalid(_) => "invalid",
    }
}
