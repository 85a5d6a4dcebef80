//! `lockgate test` runs dialogues against a plugin: without a network, by a clock of its own.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use lockgate_tests::{CommandResult, Guest, LONG_PATIENCE};
use tempfile::TempDir;

use crate::LOCKGATE;

/// A folder with a dialogue, and what the command makes of it.
struct Tested {
    folder: TempDir,
    ended: CommandResult,
}

impl Tested {
    /// Runs a dialogue against a component, under the configuration of `lockgate dev`.
    async fn component(guest: Guest, dialogue: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("case.dialogue");
        fs::write(&file, dialogue).unwrap();
        let component = guest.path().to_str().unwrap();
        let words = ["test", component, file.to_str().unwrap()];
        let ended = LOCKGATE.run_within(LONG_PATIENCE, &words).await;
        Self { folder, ended }
    }

    /// Runs a dialogue beside a configuration, which names components by `{guest}`.
    async fn configuration(text: &str, dialogue: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let mut text = text.to_owned();
        for guest in Guest::ALL {
            let path = format!("{:?}", guest.path().to_str().unwrap());
            text = text.replace(&format!("{{{}}}", guest.name()), &path);
        }
        fs::write(folder.path().join("gateway.toml"), text).unwrap();
        fs::create_dir(folder.path().join("tests")).unwrap();
        fs::write(folder.path().join("tests/case.dialogue"), dialogue).unwrap();
        let words = ["test", folder.path().to_str().unwrap()];
        let ended = LOCKGATE.run_within(LONG_PATIENCE, &words).await;
        Self { folder, ended }
    }

    #[track_caller]
    fn passed(&self) {
        let CommandResult {
            code,
            output,
            error,
        } = &self.ended;
        assert_eq!(*code, Some(0), "{output}{error}");
        assert!(output.ends_with("1 dialogue passed\n"), "{output}");
    }

    /// The command has failed and said all of this.
    #[track_caller]
    fn failed(&self, said: &[&str]) {
        let CommandResult {
            code,
            output,
            error,
        } = &self.ended;
        assert_eq!(*code, Some(1), "{output}{error}");
        for said in said {
            let said = said.replace("FILE", &self.file().display().to_string());
            let all = format!("{output}{error}");
            assert!(all.contains(&said), "{said}\n{all}");
        }
    }

    fn file(&self) -> PathBuf {
        let inside = self.folder.path().join("tests/case.dialogue");
        if inside.exists() {
            inside
        } else {
            self.folder.path().join("case.dialogue")
        }
    }
}

#[tokio::test]
async fn dialogue_of_every_kind_of_message_passes() {
    let dialogue = r#"
a connects
a sends hello
a gets hello
a sends text " two\nlines "
a gets text " two\nlines "
a sends text ""
a gets text ""
a sends binary 00 ff 7f
a gets binary 00 ff 7f
a sends 128 KiB of text
a gets 128 KiB of text
a sends {
  "first": 1,
  "id": "x7"
}
a gets {"id": "${id}", "first": 1.0}
a sends again ${id}
a gets again x7
a gets nothing
a closes with 4000 bye
"#;
    Tested::component(Guest::Echo, dialogue).await.passed();
}

#[tokio::test]
async fn failed_step_shows_its_line_and_both_messages() {
    let dialogue = "# A comment.\n\na connects\na sends {\"a\": {\"b\": [1, 2]}}\na gets {\"a\": {\"b\": [1, 3]}, \"c\": \"${x}\"}\n";
    Tested::component(Guest::Echo, dialogue).await.failed(&[
        "FAILED  FILE:5: a gets {\"a\": {\"b\": [1, 3]}, \"c\": \"${x}\"}\n",
        "  expected  {\"a\": {\"b\": [1, 3]}, \"c\": \"${x}\"}\n",
        "  came      {\"a\": {\"b\": [1, 2]}}\n",
        "  differs   a.b[1]: expected 3, came 2\n            c: expected \"${x}\", missing\n",
        "error: 1 of 1 dialogue failed",
    ]);
    for (dialogue, said) in [
        (
            "a connects\na gets hello\n",
            "FILE:2: a gets hello\n  expected  hello\n  came      nothing, within 4 s",
        ),
        (
            "a connects\na sends hello\n",
            "FILE:2: the end of the dialogue\n  expected  a gets nothing more\n  came      hello",
        ),
        (
            "a connects\na sends hello\na gets nothing\n",
            "FILE:3: a gets nothing\n  expected  nothing\n  came      hello",
        ),
        (
            "a connects to /nowhere\n",
            "FILE:1: a connects to /nowhere\n  expected  a is let in\n  came      a is refused with 403",
        ),
        (
            "a connects\na is refused with 403\n",
            "FILE:2: a is refused with 403\n  expected  a is refused with 403\n  came      a is let in",
        ),
        (
            "a connects\na sends hello\na is closed\n",
            "FILE:3: a is closed\n  expected  closed\n  came      hello",
        ),
        (
            "a connects\na sends hello\na gets \"hello\"\n",
            "the quotes are part of the expected text",
        ),
    ] {
        let tested = Tested::component(Guest::Echo, dialogue).await;
        tested.failed(&[said]);
    }
}

#[tokio::test]
async fn failed_step_shows_what_the_plugin_has_printed() {
    let dialogue = "a connects\na sends [{\"do\": \"print\", \"text\": \"I was here\"}, {\"do\": \"fail\", \"reason\": \"no luck\"}]\na gets [null]\n";
    Tested::component(Guest::Probe, dialogue).await.failed(&[
        "FILE:3: a gets [null]",
        "I was here",
        "the handler failed: no luck",
    ]);
}

#[tokio::test]
async fn mistake_in_a_dialogue_names_line_and_remedy() {
    let tested = Tested::component(Guest::Echo, "a connects\na jumps\nb sends x\n").await;
    tested.failed(&["FILE:2: \"a jumps\" is no step\n  remedy: write what a client does"]);
    let tested = Tested::component(Guest::Echo, "a connects\nb sends x\n").await;
    tested.failed(&["FILE:2: b has not connected\n  remedy: write above: b connects"]);
}

#[tokio::test]
async fn dialogue_that_is_not_utf_8_names_the_line() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("case.dialogue");
    fs::write(&file, b"a connects\na sends caf\xe9\n").unwrap();
    let component = Guest::Echo.path().to_str().unwrap();
    let file = file.to_str().unwrap();
    let ended = LOCKGATE.run(&["test", component, file]).await;
    assert_eq!(ended.code, Some(1));
    let said = format!("{file}:2: the line is not UTF-8; save the file as UTF-8");
    assert!(ended.error.contains(&said), "{}", ended.error);
}

#[tokio::test]
async fn plugin_without_dialogues_is_told_how_to_write_one() {
    let folder = TempDir::new().unwrap();
    let words = ["test", folder.path().to_str().unwrap()];
    let ended = LOCKGATE.run(&words).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .error
            .contains("tests/hello.dialogue:\n\n  a connects"),
        "{}",
        ended.error
    );
    let ended = LOCKGATE.run(&["test", "/no/such"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.error.contains("/no/such: there is no such file"),
        "{}",
        ended.error
    );
}

/// The handler waits for hours, and the test does not.
#[tokio::test]
async fn time_is_the_dialogues_own() {
    let began = Instant::now();
    let dialogue = "\
the time is 2026-03-01T12:00:00Z
a connects
a sends [{\"do\": \"clock\"}]
a gets [1772366400000]
2 hours pass
a sends [{\"do\": \"clock\"}, {\"do\": \"context\"}]
a gets [1772373600000, {\"requested_at\": 1772373600000, ...}]
a sends [{\"do\": \"sleep\", \"ms\": 2500}, {\"do\": \"clock\"}]
a gets nothing
a gets nothing for 2499 ms
1 ms passes
a gets [null, 1772373602500]
a sends [{\"do\": \"sleep\", \"ms\": 60000}]
a gets error Endpoint request timed out
a sends [{\"do\": \"spin\"}]
a gets error Endpoint request timed out
a sends [{\"do\": \"info\"}]
a gets [{\"connected_at\": 1772366400000, ...}]
";
    Tested::component(Guest::Probe, dialogue).await.passed();
    assert!(began.elapsed() < LONG_PATIENCE);
}

#[tokio::test]
async fn clients_meet_routes_limits_and_refusals_of_the_configuration() {
    let configuration = r#"
[apis.chat.stages.prod]
domains = ["chat.example.com"]
limits = { message_kib = 1, idle_timeout_s = 60 }

[apis.chat.routes]
"$connect" = { integration = "probe" }
steps = { integration = "probe", two_way = true }
silent = { integration = "probe" }

[plugins.probe]
component = {probe}
grants = ["groups", "connections"]
"#;
    let dialogue = r#"
a connects ?do=[{"do":"refuse","status":401,"message":"no"}]
a is refused with 401 no
a connects to other.example.com/
a is refused with 403

a connects ?do=[{"do":"accept","subprotocol":"v2","headers":[["x-a","7"]]}] offering v1, v2
a is let in with v2
  X-A: ${header}
a sends {"action": "steps", "steps": [{"do": "join", "group": "g"}, {"do": "event"}]}
a gets ["ok", {"connection": "${a}", "route": "steps"}]

b connects from 203.0.113.7
  User-Agent: dialogue
b sends {"action": "steps", "steps": [{"do": "info"}]}
b gets [{"source_ip": "203.0.113.7", "user_agent": "dialogue", "domain_name": "chat.example.com", ...}]
b sends {"action": "silent", "steps": [{"do": "send", "id": "${a}", "text": "psst"}]}
a gets psst
b gets nothing
b sends {"action": "other"}
b gets error Forbidden
b sends 1025 bytes of text
b is closed with 1009 message too big

the log says drops it
a is closed with 1001 Going away
"#;
    // A query has no spaces and no quotes.
    let dialogue = dialogue
        .replace("?do=[{\"do\":\"refuse\",\"status\":401,\"message\":\"no\"}]", "?do=%5B%7B%22do%22%3A%22refuse%22%2C%22status%22%3A401%2C%22message%22%3A%22no%22%7D%5D")
        .replace("?do=[{\"do\":\"accept\",\"subprotocol\":\"v2\",\"headers\":[[\"x-a\",\"7\"]]}]", "?do=%5B%7B%22do%22%3A%22accept%22%2C%22subprotocol%22%3A%22v2%22%2C%22headers%22%3A%5B%5B%22x-a%22%2C%227%22%5D%5D%7D%5D")
        .replace("the log says", "61 seconds pass\nthe log says");
    Tested::configuration(configuration, &dialogue)
        .await
        .passed();
}

const DATAGRAMS: &str = r#"
[apis.game.stages.prod]
datagrams = true

[apis.game.stages.plain]

[apis.game.routes]
steps = { integration = "probe", two_way = true }

[plugins.probe]
component = {probe}
grants = ["connections", "groups"]
"#;

#[tokio::test]
async fn client_with_datagrams_sends_and_gets_them() {
    let dialogue = r#"
a connects to /prod with datagrams
a sends datagram {"action": "steps", "steps": [{"do": "is datagram"}, {"do": "datagram", "bytes": [0, 255]}]}
a gets [true, "ok"]
a gets datagram binary 00 ff
a sends {"action": "steps", "steps": [{"do": "is datagram"}, {"do": "event"}, {"do": "datagram", "text": "{\"x\": 1}"}]}
a gets [false, {"connection": "${a}", ...}, "ok"]
a gets datagram {"x": 1}

# As a client of WebSockets.
b connects to /prod
b sends {"action": "steps", "steps": [
  {"do": "datagram", "text": "x"},
  {"do": "datagram", "id": "${a}", "letters": 1101},
  {"do": "datagram", "id": "${a}", "text": "psst"}
]}
b gets [{"invalid": "${any}"}, "too-large", "ok"]
a gets datagram psst
a gets nothing
b sends datagrams are no word of a step
b gets error Forbidden
"#;
    Tested::configuration(DATAGRAMS, dialogue).await.passed();
}

#[tokio::test]
async fn datagram_that_is_not_taken_or_not_expected_fails_its_step() {
    for connects in ["a connects to /prod", "a connects to /plain with datagrams"] {
        let dialogue = format!("{connects}\na sends datagram x");
        let said = [
            "FILE:2: a sends datagram x",
            "the gateway takes no datagram of a",
            "a connects with datagrams",
            "datagrams = true",
        ];
        Tested::configuration(DATAGRAMS, &dialogue)
            .await
            .failed(&said);
    }
    let sends =
        r#"a sends datagram {"action": "steps", "steps": [{"do": "datagram", "text": "x"}]}"#;
    for (steps, said) in [
        ("a gets [\"ok\"]", ["a gets nothing more", "datagram x"]),
        (
            "a gets [\"ok\"]\na gets datagram y",
            ["expected  datagram y", "came      datagram x"],
        ),
    ] {
        let dialogue = format!("a connects to /prod with datagrams\n{sends}\n{steps}");
        Tested::configuration(DATAGRAMS, &dialogue)
            .await
            .failed(&said);
    }
}

#[tokio::test]
async fn client_that_vanishes_is_gone_for_others() {
    let dialogue = r#"
a and b connect
a sends [{"do": "join", "group": "observers"}, {"do": "event"}]
a gets ["ok", {"connection": "${a}", ...}]
b sends [{"do": "event"}]
b gets [{"connection": "${b}", "route": "$default"}]
b vanishes
a gets {"ended": "${b}", "code": 1006, ...}
a sends [{"do": "send", "id": "${b}", "text": "x"}, {"do": "send", "id": "no-such", "text": "x"}]
a gets ["gone", "gone"]
b connects
b closes with 4001 bye
a gets {"code": 4001, "reason": "bye", ...}
b connects
b closes
a gets {"code": 1005, ...}
a sends [{"do": "close", "code": 4002, "reason": "enough"}]
a gets ["ok"]
a is closed with 4002 enough
"#;
    Tested::component(Guest::Probe, dialogue).await.passed();
}

#[tokio::test]
async fn client_that_renews_stays_and_another_is_closed_when_it_expires() {
    let configuration = r#"
[apis.a]
authorizer = "door"
[apis.a.stages.s]
[apis.a.routes]
renew = { integration = "probe", two_way = true, renews = "handler" }
[authorizers.door]
plugin = "doorman"
on_expiry = "close"
[plugins.doorman]
component = {doorman}
[plugins.probe]
component = {probe}
grants = ["connections", "groups"]
"#;
    // What lets them in holds for ten minutes.
    let dialogue = r#"
a and b connect ?say=%7B%22expires_in%22%3A600%7D
9 minutes pass
a sends {"action": "renew", "steps": [{"do": "renew", "for_ms": 600000}]}
a gets ["ok"]
59 seconds pass
b gets nothing
2 seconds pass
b is closed with 1008 authorization expired
8 minutes pass
a gets nothing
60 seconds pass
a is closed with 1008 authorization expired
"#;
    Tested::configuration(configuration, dialogue)
        .await
        .passed();
}

#[tokio::test]
async fn gateway_that_does_not_start_is_the_configurations_mistake() {
    let configuration = "apis.a.stages.s = {}\n[apis.a.routes]\n\"$default\" = { integration = \"probe\" }\n[plugins.probe]\ncomponent = {probe}\n";
    let tested = Tested::configuration(configuration, "a connects\n").await;
    tested.failed(&["gateway.toml:5: plugins.probe.", "grants"]);
}

/// An API on whose clients the plugin `doorkeeper` decides.
const DOOR: &str = r#"
listeners = [{ address = "127.0.0.1:0", tls = "off" }]

[authorizers.tickets]
plugin = "doorkeeper"
on_expiry = "close"

[apis.a]
authorizer = "tickets"
[apis.a.stages.s]
[apis.a.routes]
"$default" = { integration = "doorkeeper", two_way = true }

[plugins.doorkeeper]
component = {doorkeeper}
environment = { TICKET_SECRET = "for development only" }
"#;

#[tokio::test]
pub(crate) async fn authorizer_of_the_configuration_decides_on_clients() {
    let ticket =
        "ada.gold.1767225660.7f75f0703c22b4e10892f25783d02c2cf45374debc69dc7fecc1ca645377fbee";
    let dialogue = "
the time is 2026-01-01T00:00:00Z
ada connects ?ticket=TICKET
ada sends who am I?
ada gets ada (gold)
bob connects
bob is refused with 401
eve connects ?ticket=eve.TICKET
eve is refused with 403 this is no ticket of ours
60 seconds pass
ada is closed with 1008 authorization expired
ada connects ?ticket=TICKET
ada is refused with 401
";
    let dialogue = dialogue.replace("TICKET", ticket);
    Tested::configuration(DOOR, &dialogue).await.passed();
}

/// An API whose authorizer asks an issuer over the network, and one route for moderators alone.
const ISSUER: &str = r#"
listeners = [{ address = "127.0.0.1:0", tls = "off" }]

[authorizers.users]
jwt = { issuer = "http://ISSUER", jwks_url = "http://ISSUER/keys", audience = ["a"] }

[apis.a]
authorizer = "users"
route_selection_expression = "$request.body.action"
[apis.a.stages.s]
[apis.a.routes]
"$default" = { integration = "doorkeeper", two_way = true }
moderate = { integration = "doorkeeper", two_way = true, scopes = ["moderate"] }

[plugins.doorkeeper]
component = {doorkeeper}
"#;

#[tokio::test]
async fn client_is_whom_its_step_names_and_no_issuer_is_asked() {
    let issuer = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    issuer.set_nonblocking(true).unwrap();
    let address = issuer.local_addr().unwrap().to_string();
    let configuration = ISSUER.replace("ISSUER", &address);
    let dialogue = r#"
ada connects as ada {"plan": "gold", "seats": 3, "staff": true} scopes read,moderate
ada sends who am I?
ada gets ada (gold)
ada sends {"action": "moderate"}
ada gets ada (gold)
bob connects to /s as bob from 203.0.113.7
bob sends who am I?
bob gets bob (no plan)
bob sends {"action": "moderate"}
bob gets error Forbidden
"#;
    Tested::configuration(&configuration, dialogue)
        .await
        .passed();
    let unnamed = Tested::configuration(&configuration, "ada connects\n").await;
    unnamed.failed(&[
        "FILE:1: ada connects\n",
        "authorizers.users needs a network, a certificate or a file of keys",
        "as in ada connects as ada",
    ]);
    let asked = issuer.accept().unwrap_err();
    assert_eq!(asked.kind(), std::io::ErrorKind::WouldBlock);
    // Without an authorizer, too.
    let dialogue = "ada connects as ada\nada sends who am I?\nada gets ada (no plan)\n";
    Tested::component(Guest::Doorkeeper, dialogue)
        .await
        .passed();
}
