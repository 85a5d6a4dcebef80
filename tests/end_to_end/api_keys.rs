//! API keys: made by a command, stored as hashes, limited by usage plans.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use lockgate_tests::{CommandResult, Gateway, Request, within, write_configuration};
use serde_json::json;
use tempfile::TempDir;

use crate::connect::check_refusal;
use crate::upgrade::upgrade;
use crate::{LOCKGATE, probe_configuration};

/// A folder with a file of API keys, and a gateway that runs beside it.
pub(crate) struct Keys {
    folder: TempDir,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    async fn command(&self, words: &[&str]) -> CommandResult {
        let words = [&["keys", "api"], words].concat();
        LOCKGATE.run_in(self.path(), &words).await
    }

    /// Makes a key.
    pub(crate) async fn make(&self, name: &str, more: &[&str]) -> String {
        let made = self.command(&[&["new", name], more].concat()).await;
        assert_eq!(made.code, Some(0), "{}", made.error);
        made.output.trim().to_owned()
    }

    /// The probe at `/s` behind the keys, with these settings of `api_keys` and these plans.
    fn configuration(&self, more: &str, plans: &str) -> String {
        let probe = probe_configuration("authorizer = \"keys\"", "");
        let file = self.path().join("api-keys.toml");
        format!("{probe}\n[authorizers.keys]\napi_keys = {{ file = {file:?}{more} }}\n{plans}",)
    }

    /// The file of a configuration with these keys and nothing that takes time to judge.
    fn file_to_validate(&self) -> PathBuf {
        let file = self.path().join("api-keys.toml");
        let configuration = format!(
            "[[listeners]]\naddress = \"127.0.0.1:0\"\n[apis.a]\nauthorizer = \"keys\"\n[apis.a.stages.s]\n\
             [authorizers.keys]\napi_keys = {{ file = {file:?} }}\n"
        );
        write_configuration(self.path(), &configuration)
    }

    async fn serve(&self, more: &str, plans: &str) -> Gateway {
        LOCKGATE.serve(&self.configuration(more, plans)).await
    }
}

pub(crate) fn with_key(gateway: &Gateway, key: &str) -> Request {
    gateway.ws("/s").header("X-Api-Key", key)
}

#[tokio::test]
async fn key_says_who_the_client_is_and_others_are_forbidden() {
    let keys = Keys::new();
    let (mobile, web) = (keys.make("mobile", &[]).await, keys.make("web", &[]).await);
    let gateway = keys.serve("", "").await;
    let mut client = with_key(&gateway, &mobile).open().await;
    let who = client.step(json!({"do": "who"})).await;
    let prefix = mobile.split_once('.').unwrap().0;
    assert_eq!(
        who,
        json!({"principal": "mobile", "values": {"api_key_id": prefix, "api_key_name": "mobile"}})
    );
    with_key(&gateway, &web).open().await;
    let stranger = format!("{prefix}.{}", web.split_once('.').unwrap().1);
    for key in ["x", prefix, &stranger, &(mobile.clone() + "A")] {
        check_refusal(&with_key(&gateway, key).refused().await, 403, "Forbidden");
    }
    check_refusal(&gateway.ws("/s").refused().await, 403, "Forbidden");
}

#[tokio::test]
async fn new_and_revoked_keys_count_within_seconds() {
    let keys = Keys::new();
    let first = keys.make("first", &[]).await;
    let gateway = keys.serve("", "").await;
    let mut open = with_key(&gateway, &first).open().await;
    let second = keys.make("second", &[]).await;
    gateway.log().line(&["API keys have changed", "2"]).await;
    with_key(&gateway, &second).open().await;
    let listed = keys.command(&["list"]).await.output;
    assert!(
        listed.contains("first") && listed.contains("second"),
        "{listed}"
    );
    assert_eq!(keys.command(&["revoke", "first"]).await.code, Some(0));
    gateway.log().nth_line(1, &["API keys have changed"]).await;
    check_refusal(
        &with_key(&gateway, &first).refused().await,
        403,
        "Forbidden",
    );
    // What it has opened stays open.
    open.step(json!({"do": "who"})).await;
    assert_eq!(keys.command(&["revoke", "first"]).await.code, Some(1));
    let again = keys.command(&["new", "second"]).await;
    assert!(
        again.code == Some(1) && again.error.contains("already"),
        "{}",
        again.error
    );
}

#[tokio::test]
async fn file_that_others_can_read_is_refused_with_the_remedy() {
    let keys = Keys::new();
    keys.make("mobile", &[]).await;
    let file = keys.path().join("api-keys.toml");
    let mode = |mode| fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let gateway = keys.file_to_validate();
    let validate = async || LOCKGATE.run(&["validate", gateway.to_str().unwrap()]).await;
    for open in [0o640, 0o604, 0o620, 0o644] {
        mode(open);
        for result in [validate().await, keys.command(&["list"]).await] {
            assert_eq!(result.code, Some(1));
            assert!(
                result.error.contains(&format!("mode {open:04o}")),
                "{}",
                result.error
            );
        }
        assert!(validate().await.error.contains("chmod 600"));
    }
    mode(0o600);
    assert_eq!(validate().await.code, Some(0));
    fs::write(&file, "secret = 1").unwrap();
    let damaged = validate().await.error;
    let why = "no file of API keys, by line 1: a value is of another type";
    assert!(damaged.contains(why), "{damaged}");
}

const FREE: &str = "[usage_plans.free]\nquota = { limit = 2, per = \"month\" }\n";

#[tokio::test]
async fn quota_survives_a_restart_and_a_kill() {
    let keys = Keys::new();
    let (key, other) = (keys.make("mobile", &[]).await, keys.make("web", &[]).await);
    let mut gateway = keys.serve(", usage_plan = \"free\"", FREE).await;
    with_key(&gateway, &key).open().await;
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
    let gateway = keys.serve(", usage_plan = \"free\"", FREE).await;
    with_key(&gateway, &key).open().await;
    let refused = with_key(&gateway, &key).refused().await;
    check_refusal(&refused, 429, "Too Many Requests");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=31 * 86_400).contains(&wait), "{wait}");
    // Another key has a quota of its own.
    with_key(&gateway, &other).open().await;
    let saved = keys.path().join("api-keys.toml.usage");
    let used = || {
        fs::read_to_string(&saved)
            .unwrap_or_default()
            .matches("\"used\":")
            .count()
    };
    within_patience(|| used() == 2).await;
    drop(gateway);
    let gateway = keys.serve(", usage_plan = \"free\"", FREE).await;
    check_refusal(
        &with_key(&gateway, &key).refused().await,
        429,
        "Too Many Requests",
    );
}

/// As a power loss or a disk may leave it: `validate` and the start say so, and quotas are counted on in a new file.
#[tokio::test]
async fn broken_file_of_use_is_set_aside_and_quotas_count_on() {
    for broken in ["", "{\"tr"] {
        let keys = Keys::new();
        let key = keys.make("mobile", &[]).await;
        let saved = keys.path().join("api-keys.toml.usage");
        let aside = keys.path().join("api-keys.toml.usage.broken");
        let is_aside = || fs::read_to_string(&aside).is_ok_and(|text| text == broken);
        let uses = |count: u8| {
            let count = format!("\"used\":{count}}}");
            fs::read_to_string(&saved).is_ok_and(|text| text.contains(&count))
        };
        fs::write(&saved, broken).unwrap();
        let file = keys.file_to_validate();
        let result = LOCKGATE.run(&["validate", file.to_str().unwrap()]).await;
        assert_eq!(result.code, Some(0));
        for part in ["api-keys.toml.usage is not known", "remedy:", "backup"] {
            assert!(result.error.contains(part), "{}", result.error);
        }
        assert!(!is_aside(), "validate changes nothing");
        let gateway = keys.serve(", usage_plan = \"free\"", FREE).await;
        gateway
            .log()
            .line(&["\"WARN\"", "use of API keys is lost", "usage.broken"])
            .await;
        assert!(is_aside());
        let request = with_key(&gateway, &key);
        request.open().await.vanish();
        within_patience(|| uses(1)).await;
        // What is known while it serves is in the next file, too.
        fs::remove_file(&aside).unwrap();
        fs::write(&saved, broken).unwrap();
        request.open().await.vanish();
        within_patience(|| uses(2)).await;
        assert!(is_aside());
        drop(gateway);
        let gateway = keys.serve(", usage_plan = \"free\"", FREE).await;
        let refused = with_key(&gateway, &key).refused().await;
        check_refusal(&refused, 429, "Too Many Requests");
    }
}

#[tokio::test]
async fn quota_survives_an_upgrade() {
    let keys = Keys::new();
    let key = keys.make("mobile", &[]).await;
    let mut gateway = keys.serve(", usage_plan = \"free\"", FREE).await;
    let request = with_key(&gateway, &key);
    request.open().await.vanish();
    let saved = keys.path().join("api-keys.toml.usage");
    within_patience(|| fs::read_to_string(&saved).is_ok_and(|text| text.contains("\"used\":1")))
        .await;
    let successor = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    request.open().await.vanish();
    check_refusal(&request.refused().await, 429, "Too Many Requests");
    successor.terminate();
    successor.ended().await;
}

/// Without it, what a client uses of a quota would double with each authorizer, and with each reload that adds one.
#[tokio::test]
async fn key_of_two_authorizers_has_one_quota_over_reload_and_upgrade() {
    let keys = Keys::new();
    let key = keys.make("mobile", &[]).await;
    let file = keys.path().join("api-keys.toml");
    let configuration = keys.configuration(
        ", usage_plan = \"free\"",
        &format!(
            "[usage_plans.free]\nquota = {{ limit = 4, per = \"month\" }}\n\
             [authorizers.first]\napi_keys = {{ file = {file:?}, usage_plan = \"free\" }}\n\
             identity_source = [\"route.request.querystring.key\"]\n\
             [apis.a.stages.t]\nauthorizer = \"first\"\n"
        ),
    );
    let mut gateway = LOCKGATE.serve(&configuration).await;
    let both = [
        with_key(&gateway, &key),
        gateway.ws(&format!("/t?key={key}")),
    ];
    let opens = async |times: usize| {
        for request in both.iter().cycle().take(times) {
            request.open().await.vanish();
        }
        for request in &both {
            check_refusal(&request.refused().await, 429, "Too Many Requests");
        }
    };
    opens(4).await;
    // Another name, another plan, and one that stays: nobody begins anew.
    let edits = [
        ("[authorizers.first]", "[authorizers.another]"),
        ("authorizer = \"first\"", "authorizer = \"another\""),
        ("limit = 4", "limit = 7"),
    ];
    gateway.change(&edits).await;
    opens(3).await;
    let edits = [
        ("authorizer = \"keys\"", "authorizer = \"late\""),
        ("[authorizers.keys]", "[authorizers.late]"),
    ];
    gateway.change(&edits).await;
    opens(0).await;
    let saved = keys.path().join("api-keys.toml.usage");
    within_patience(|| fs::read_to_string(&saved).is_ok_and(|text| text.contains("\"used\":7")))
        .await;
    let successor = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    opens(0).await;
    successor.terminate();
    successor.ended().await;
}

/// A quota that is used up is what people remove or damage the file for.
#[tokio::test]
async fn file_of_use_is_put_right_also_if_nothing_is_used() {
    let keys = Keys::new();
    let key = keys.make("mobile", &[]).await;
    let mut gateway = keys.serve(", usage_plan = \"free\"", FREE).await;
    for _ in 0..2 {
        with_key(&gateway, &key).open().await.vanish();
    }
    let saved = keys.path().join("api-keys.toml.usage");
    let aside = keys.path().join("api-keys.toml.usage.broken");
    let is_right = || fs::read_to_string(&saved).is_ok_and(|text| text.contains("\"used\":2}"));
    within_patience(is_right).await;
    let right = fs::read_to_string(&saved).unwrap();
    fs::remove_file(&saved).unwrap();
    within_patience(is_right).await;
    for broken in ["", "{\"tr"] {
        fs::write(&saved, broken).unwrap();
        within_patience(is_right).await;
        assert_eq!(fs::read_to_string(&aside).unwrap(), broken);
        fs::remove_file(&aside).unwrap();
    }
    // One from before.
    for behind in ["{}".to_owned(), right.replace("\"used\":2", "\"used\":1")] {
        fs::write(&saved, behind).unwrap();
        within_patience(is_right).await;
    }
    fs::remove_file(&saved).unwrap();
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
    assert_eq!(fs::read_to_string(&saved).unwrap(), right);
    // Before the first saving, too.
    let mut gateway = keys.serve(", usage_plan = \"free\"", FREE).await;
    fs::remove_file(&saved).unwrap();
    within_patience(is_right).await;
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
    // What nobody has used needs no file.
    fs::remove_file(&saved).unwrap();
    let mut gateway = keys.serve(", usage_plan = \"free\"", FREE).await;
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
    assert!(!saved.exists());
}

/// A month begins before the day that the plan counted by until then.
#[tokio::test]
async fn longer_period_of_a_plan_survives_a_kill() {
    let keys = Keys::new();
    let key = keys.make("mobile", &[]).await;
    let by_day = FREE.replace("limit = 2, per = \"month\"", "limit = 1, per = \"day\"");
    let gateway = keys.serve(", usage_plan = \"free\"", &by_day).await;
    with_key(&gateway, &key).open().await.vanish();
    let saved = keys.path().join("api-keys.toml.usage");
    let uses = |text: &str| fs::read_to_string(&saved).is_ok_and(|saved| saved.contains(text));
    within_patience(|| uses("\"used\":1}")).await;
    let edits = [("limit = 1, per = \"day\"", "limit = 2, per = \"month\"")];
    gateway.change(&edits).await;
    // On the first of a month, the use of the day is that of the month.
    let mut opened = 0;
    while with_key(&gateway, &key).attempt().await.is_ok() {
        opened += 1;
    }
    assert!((1..=2).contains(&opened), "{opened}");
    within_patience(|| uses("\"used\":2}")).await;
    drop(gateway);
    let gateway = keys.serve(", usage_plan = \"free\"", FREE).await;
    let refused = with_key(&gateway, &key).refused().await;
    check_refusal(&refused, 429, "Too Many Requests");
}

/// As a clock that was ahead once leaves it.
#[tokio::test]
async fn use_of_a_period_to_come_makes_room_for_that_of_this_one() {
    let keys = Keys::new();
    let key = keys.make("mobile", &[]).await;
    let (prefix, _) = key.split_once('.').unwrap();
    let saved = keys.path().join("api-keys.toml.usage");
    let to_come = json!({ prefix: {"begins": 99_999, "used": 1} }).to_string();
    let is_right = || {
        let text = fs::read_to_string(&saved).unwrap_or_default();
        text.contains("\"used\":2}") && !text.contains("99999")
    };
    fs::write(&saved, &to_come).unwrap();
    let gateway = keys.serve(", usage_plan = \"free\"", FREE).await;
    for _ in 0..2 {
        with_key(&gateway, &key).open().await.vanish();
    }
    within_patience(is_right).await;
    fs::write(&saved, &to_come).unwrap();
    within_patience(is_right).await;
    drop(gateway);
    let gateway = keys.serve(", usage_plan = \"free\"", FREE).await;
    let refused = with_key(&gateway, &key).refused().await;
    check_refusal(&refused, 429, "Too Many Requests");
}

#[tokio::test]
async fn commands_at_once_lose_no_key() {
    let keys = Keys::new();
    let names = ["a", "b", "c", "d"];
    let [one, two, three, four] = names.map(|name| keys.make(name, &[]));
    tokio::join!(one, two, three, four);
    let listed = keys.command(&["list"]).await.output;
    assert_eq!(listed.lines().count(), names.len(), "{listed}");
}

/// Waits until a condition of the file system holds.
async fn within_patience(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within("a file has what is expected", waiting).await;
}

#[tokio::test]
async fn plan_of_the_key_limits_its_messages() {
    let keys = Keys::new();
    let key = keys.make("mobile", &["--plan", "chatty"]).await;
    let plan = "[usage_plans.chatty]\nquota = { limit = 3, per = \"day\" }\nmessages = true\n";
    let gateway = keys.serve("", plan).await;
    let mut client = with_key(&gateway, &key).open().await;
    client.step(json!({"do": "who"})).await;
    client.step(json!({"do": "who"})).await;
    client.send(json!([{"do": "who"}]).to_string()).await;
    let frame = client.json().await;
    assert_eq!(frame["message"], "Too Many Requests", "{frame}");
    let (_, page) = gateway.page("/metrics").await;
    let is_counted =
        |line: &str| line.starts_with("lockgate_throttled_total{") && line.ends_with("} 1");
    assert!(page.lines().any(is_counted), "{page}");
    check_refusal(
        &with_key(&gateway, &key).refused().await,
        429,
        "Too Many Requests",
    );
    let (_, page) = gateway.page("/metrics").await;
    let refused = "lockgate_handshakes_total{result=\"refused\",reason=\"over_plan\"} 1";
    assert!(page.contains(refused), "{page}");
}

#[tokio::test]
async fn burst_of_handshakes_is_throttled() {
    let keys = Keys::new();
    let key = keys.make("mobile", &[]).await;
    let plan = "[usage_plans.slow]\nrate_per_s = 1\nburst = 2\n";
    let gateway = keys.serve(", usage_plan = \"slow\"", plan).await;
    let mut refused = 0;
    for _ in 0..6 {
        match with_key(&gateway, &key).attempt().await {
            Ok(_) => {}
            Err(answer) => {
                check_refusal(&answer, 429, "Too Many Requests");
                assert_eq!(answer.header("retry-after"), Some("1"));
                refused += 1;
            }
        }
    }
    assert!(refused >= 1, "six handshakes in less than four seconds");
}

/// As a typo in `keys api new NAME --plan` leaves it while a gateway runs.
#[tokio::test]
async fn key_with_an_unknown_plan_alone_is_refused_with_a_warning() {
    let keys = Keys::new();
    let good = keys.make("good", &[]).await;
    let mut gateway = keys.serve("", FREE).await;
    let stray = keys.make("stray", &["--plan", "fre"]).await;
    let warning = ["\"WARN\"", "usage plan \\\"fre\\\"", "get 403", "remedy"];
    gateway.log().line(&warning).await;
    let check = async |gateway: &Gateway| {
        let refused = with_key(gateway, &stray).refused().await;
        check_refusal(&refused, 403, "Forbidden");
        with_key(gateway, &good).open().await;
    };
    check(&gateway).await;
    gateway.change(&[]).await;
    gateway.log().nth_line(1, &warning).await;
    check(&gateway).await;
    let successor = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    check(&gateway).await;
    successor.terminate();
    successor.ended().await;
    let file = keys.file_to_validate();
    let result = LOCKGATE.run(&["validate", file.to_str().unwrap()]).await;
    assert_eq!(result.code, Some(0), "{}", result.error);
    for part in ["usage plan \"fre\"", "get 403", "add [usage_plans.fre]"] {
        assert!(result.error.contains(part), "{}", result.error);
    }
    let started = keys.serve("", FREE).await;
    started.log().line(&warning).await;
    check(&started).await;
}

/// The secret is on the standard output of the command that makes it, and nowhere else.
#[tokio::test]
async fn secret_of_a_key_is_shown_once() {
    let keys = Keys::new();
    let made = keys.command(&["new", "canary"]).await;
    let key = made.output.trim().to_owned();
    let secret = key.split_once('.').unwrap().1.to_owned();
    assert!(secret.len() >= 43 && !made.error.contains(&secret));
    let gateway = keys.serve("", "").await;
    with_key(&gateway, &key).open().await;
    with_key(&gateway, &(key.clone() + "A")).refused().await;
    gateway.log().line(&["refused"]).await;
    let (_, metrics) = gateway.page("/metrics").await;
    let listed = keys.command(&["list"]).await;
    let mut written = vec![
        metrics,
        listed.output,
        listed.error,
        gateway.log().lines().join("\n"),
    ];
    for entry in fs::read_dir(keys.path()).unwrap() {
        written.push(fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    for text in written {
        assert!(!text.contains(&secret), "{text}");
    }
}

#[tokio::test]
async fn commands_follow_a_link_and_leave_nothing_beside_the_file() {
    let keys = Keys::new();
    let real = keys.path().join("real");
    fs::create_dir(&real).unwrap();
    let link = keys.path().join("api-keys.toml");
    std::os::unix::fs::symlink("real/keys.toml", &link).unwrap();
    // The first one makes the file that the link leads to.
    for name in ["mobile", "web"] {
        keys.make(name, &[]).await;
    }
    let revoked = keys.command(&["revoke", "mobile"]).await;
    assert_eq!(revoked.code, Some(0), "{}", revoked.error);
    assert!(link.is_symlink());
    let listed = keys.command(&["list", "--file", "real/keys.toml"]).await;
    assert!(!listed.output.contains("mobile") && listed.output.contains("web"));
    assert_eq!(fs::read_dir(&real).unwrap().count(), 1);
    assert_eq!(fs::read_dir(keys.path()).unwrap().count(), 2);
}
