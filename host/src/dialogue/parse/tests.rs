//! Dialogues as they are written, and the mistakes in them.

use super::*;

/// The mistakes of a text: line, and the beginnings of message and remedy.
fn mistakes(text: &str) -> Vec<Mistake> {
    parse(text).map_or_else(|mistakes| mistakes, |script| panic!("{text}: {script:?}"))
}

#[test]
fn every_step_is_read() {
    let text = r#"
# A dialogue with every step.
the time is 2026-03-01T12:00:00Z

a connects to example.com/v1?x=1 from 203.0.113.7 offering chat.v2, chat.v1
  Authorization: Bearer x
  Cookie: a=b
a is let in with chat.v2
  Set-Cookie: session=${session}
b and c connect as bob {"plan": "gold", "staff": true, "seats": 3} ?session=${session} scopes read,write
d connects
d is refused with 403 Forbidden
d connects
d is refused with 401

a sends hello ${session}
a sends {
  "action": "say",
  "to": "${session}"
}
a, b and c send text "\n"
b sends binary 00 ff
b sends binary
b sends 128 KiB of text
c sends 3 bytes of binary
a gets {"event": "said", "by": ["${id}", ...], ...}
a and b get hello
b gets text ""
b gets 2 bytes of binary
c gets nothing
c gets nothing for 500 ms
c gets error Internal server error
90 seconds pass
1.5s passes
the log says ${any} said
a closes with 4000 bye bye
b closes
c is closed with 1001 Going away
c connects
c vanishes
a connects
a is closed
e connects to /v1 with datagrams offering chat.v2
e sends datagram {"at": [1, 2]}
e sends datagram 00 is a text
e sends datagram
e gets datagram binary 00 ff
e gets datagram {"at": "${at}", ...}
"#;
    let script = parse(text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"));
    assert_eq!(script.steps.len(), 37);
    assert_eq!(script.start.as_secs(), 1_772_366_400);
    let lines: Vec<_> = script.steps.iter().map(|step| step.line).collect();
    assert_eq!(lines.get(..3), Some(&[5, 8, 10][..]));
    // As on Windows.
    let script = parse(&text.replace('\n', "\r\n")).unwrap();
    assert_eq!(script.steps.len(), 37);
}

#[test]
fn mistake_names_its_line_and_its_remedy() {
    for (text, line, message, remedy) in [
        ("", 1, "there is no step", "a connects"),
        ("# only this\n", 1, "there is no step", "a connects"),
        ("a connects\n  x\n", 2, "is no header", "Name: value"),
        ("a connects as", 1, "the principal is empty", "as NAME"),
        (
            "a connects as ada {\"a\": []}",
            1,
            "no values",
            "on one line",
        ),
        ("a connects as ada {\"a\": 1", 1, "no values", "on one line"),
        ("a connects scopes read", 1, "has a name", "as ada scopes"),
        ("a connects as ada scopes", 1, "has no name", "SCOPE,SCOPE"),
        ("a connects\nb jumps", 2, "is no step", "a sends TEXT"),
        (
            "a connects\n1st sends x",
            2,
            "time says that it passes",
            "letter",
        ),
        ("a connects\na sends", 2, "there is no message", "text \"\""),
        (
            "a connects\na sends {\n\n\"a\": x\n}",
            4,
            "JSON value is expected",
            "text",
        ),
        (
            "a connects\na sends {\"a\": 1",
            2,
            "the message ends",
            "close it with }",
        ),
        (
            "a connects\na sends {\"a\": 1} and",
            2,
            "something follows",
            "remove it",
        ),
        (
            "a connects\na sends {\"a\": 1, ...}",
            2,
            "leaves nothing open",
            "all of it",
        ),
        (
            "a connects\na sends binary xyz",
            2,
            "hexadecimal",
            "text \"binary xyz\"",
        ),
        (
            "a connects\na sends text \"x",
            2,
            "no text in quotes",
            "escape",
        ),
        ("a connects\na sends ${x", 2, "has no \"}\"", "$${"),
        (
            "a connects\na sends ${x}",
            2,
            "no step above has a value",
            "a gets",
        ),
        (
            "a connects\na sends ${any}",
            2,
            "no value that could be sent",
            "name the value",
        ),
        (
            "a connects\na sends 99 MiB of text",
            2,
            "more than a message",
            "16 MiB",
        ),
        ("a sends x", 1, "a has not connected", "a connects"),
        (
            "a connects\na connects",
            2,
            "connected already",
            "close it first",
        ),
        (
            "a connects\na sends x\na is refused with 403",
            3,
            "has had the answer",
            "right below",
        ),
        (
            "a connects\na is refused with 200",
            2,
            "from 300 to 599",
            "403",
        ),
        (
            "a connects\na is refused with 403\na gets x",
            3,
            "a was refused",
            "connect again",
        ),
        (
            "a connects\na closes\na sends x",
            3,
            "closed since line 2",
            "connect again",
        ),
        ("a connects\na closes with 99", 2, "no close code", "1000"),
        ("a connects from nowhere", 1, "no IP address", "203.0.113.7"),
        ("a connects to nowhere", 1, "no path of a stage", "/STAGE"),
        (
            "a connects ?é",
            1,
            "characters that an address has not",
            "percent",
        ),
        ("a connects with x", 1, "says nothing about", "offering"),
        (
            "a connects\nthe time is 2026-01-01T00:00:00Z",
            2,
            "after the first step",
            "above",
        ),
        (
            "the time is noon\na connects",
            1,
            "no time since 1970",
            "2026",
        ),
        ("a connects\n99 years pass", 2, "is no time", "seconds"),
        ("a connects\n32 days pass", 2, "longer", "31 days"),
        ("a and a connect", 1, "named twice", "once"),
        (" a connects", 1, "indented", "start of its line"),
        (
            "a connects\na gets {\"x\": 1, \"x\": 2}",
            2,
            "there twice",
            "remove",
        ),
    ] {
        let found = mistakes(text);
        let [mistake] = found.as_slice() else {
            panic!("{text}: {found:?}");
        };
        assert_eq!(mistake.line, line, "{text}: {mistake:?}");
        assert!(mistake.message.contains(message), "{text}: {mistake:?}");
        assert!(mistake.remedy.contains(remedy), "{text}: {mistake:?}");
    }
}

#[test]
fn all_mistakes_of_a_file_are_found() {
    let text = "a connects\na jumps\n  indented\na gets {\n\"x\" 1\n}\nb flies\n";
    let lines: Vec<_> = mistakes(text).iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines, [2, 5, 7]);
}
