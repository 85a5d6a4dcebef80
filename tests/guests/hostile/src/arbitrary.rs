//! Calls the gateway with arguments from the bytes of a message, until the bytes are used up.

use lockgate_plugin::{Message, connections, context, groups};

use crate::wasi;

/// The bytes of a message, taken from the front.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| {
            number << 8 | u64::from(self.byte().unwrap_or(0))
        })
    }

    /// A word: the own id, a usual name, many letters, or the bytes themselves.
    fn word(&mut self, own: &str) -> String {
        match self.byte().unwrap_or(0) % 8 {
            0 | 1 => own.to_owned(),
            2 => "g".to_owned(),
            3 => String::new(),
            4 => "é".repeat(usize::from(self.byte().unwrap_or(0)) * 8),
            5 => own.chars().rev().collect(),
            _ => {
                let length = usize::from(self.byte().unwrap_or(0) % 40).min(self.0.len());
                let (text, rest) = self.0.split_at(length);
                self.0 = rest;
                // SAFETY: none; this may be invalid text, which the gateway has to detect.
                unsafe { String::from_utf8_unchecked(text.to_vec()) }
            }
        }
    }
}

/// Makes the calls, and returns their number.
pub fn calls(own: &str, bytes: &[u8]) -> String {
    let mut input = Input(bytes);
    let mut made = 0;
    while let Some(which) = input.byte() {
        call(which, own, &mut input);
        made += 1;
    }
    format!("calls made: {made}")
}

/// Makes one call. Any result will do, as long as the call returns.
fn call(which: u8, own: &str, input: &mut Input<'_>) {
    let word = input.word(own);
    match which % 20 {
        0 => drop(connections::send(&word, input.word(own))),
        1 => drop(connections::send(
            &word,
            Message::from(input.word(own).into_bytes()),
        )),
        // Not the own connection, whose client waits for the answer.
        2 => drop(connections::close(
            "AAAAAAAAAAAAAAAA",
            input.number() as u16,
            &word,
        )),
        3 => drop(connections::info(&word)),
        4 => drop(connections::attribute(&word, &input.word(own))),
        5 => drop(connections::attributes(&word)),
        6 | 7 => drop(connections::set_attribute(
            &word,
            &input.word(own),
            &input.word(own),
        )),
        8 => drop(connections::remove_attribute(&word, &input.word(own))),
        9 | 10 => drop(groups::join(&word, &input.word(own))),
        11 => drop(groups::leave(&word, &input.word(own))),
        12 => drop(groups::publish(&word, input.word(own))),
        13 => drop(groups::publish_except(
            &word,
            input.word(own),
            &input.word(own),
        )),
        14 => {
            let _ = groups::count(&word);
            drop(groups::members(
                &word,
                Some(&input.word(own)),
                input.number() as u32,
            ));
        }
        15 => drop(context::variables()),
        16 => drop(wasi::get_random_bytes(
            input.number() >> (input.byte().unwrap_or(0) % 64),
        )),
        17 => drop(wasi::subscribe_duration(input.number())),
        18 => println!("{word}"),
        _ => drop(context::current()),
    }
}
