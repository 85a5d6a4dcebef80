//! Dialogues: what an author writes, and messages of a plugin against it.

use crate::connections::Message;
use crate::dialogue::{Action, Captures, ClientAction, parse};

/// Takes a dialogue. Every mistake has a line of the text and a remedy; a dialogue without one has steps.
pub(super) fn dialogues(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match parse(&text) {
        Ok(script) => {
            assert!(!script.steps.is_empty());
            let lines = text.lines().count();
            assert!(script.steps.iter().all(|step| step.line <= lines));
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            let lines = text.split('\n').count();
            for mistake in mistakes {
                assert!((1..=lines).contains(&mistake.line), "{mistake:?}");
                assert!(!mistake.message.is_empty() && !mistake.remedy.is_empty());
            }
        }
    }
}

/// Takes an expected message and, behind a NUL, the one that comes. One that fits does so again with the values that it
/// has given.
pub(super) fn expectations(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (expected, came) = text.split_once('\0').unwrap_or((&text, &text));
    let script = parse(&format!("a connects\na gets {expected}"));
    let message = Message::Text(came.to_owned());
    for step in script.iter().flat_map(|script| &script.steps) {
        let Action::Clients(_, ClientAction::Get(expected)) = &step.action else {
            continue;
        };
        let mut captures = Captures::new();
        match expected.fits(&message, &mut captures) {
            Ok(()) => {
                let again = expected.fits(&message, &mut captures.clone());
                assert!(again.is_ok(), "{again:?}");
            }
            Err(_) => assert!(captures.is_empty()),
        }
    }
}
