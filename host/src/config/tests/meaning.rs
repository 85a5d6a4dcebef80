//! The meaning of keys: the model that a file gives.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::config::*;

/// Writes a file with one listener, one stage and one plugin, and `more` after them.
fn with(more: &str) -> String {
    format!(
        "listeners = [{{ address = \"127.0.0.1:0\" }}]\napis.chat.stages.prod = {{}}\n\
         plugins.chat = {{ component = \"chat.wasm\" }}\n{more}"
    )
}

#[track_caller]
fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("folder/gateway.toml"))
        .unwrap_or_else(|problems| panic!("{problems}"))
}

#[track_caller]
fn only_stage(more: &str) -> Stage {
    let text = with("").replace("prod = {}", &format!("prod = {{ {more} }}"));
    let api = parse(&text).apis.pop().expect("there is an API");
    api.stages.into_iter().next().expect("there is a stage")
}

#[track_caller]
fn only_plugin(more: &str) -> Plugin {
    let text = with("").replace("wasm\" }", &format!("wasm\", {more} }}"));
    parse(&text).plugins.pop().expect("there is a plugin")
}

#[test]
fn short_file_means_the_defaults() {
    let config = parse(&with(""));
    let listener = config.listeners.first().expect("there is a listener");
    assert_eq!((&listener.tls, listener.http2), (&Tls::Off, false));
    assert_eq!(config.management, None);
    assert_eq!(config.compile_cache, None);
    assert_eq!(config.limits, GatewayLimits::default());
    assert_eq!(config.log, Log::default());
    let stage = only_stage("");
    assert_eq!(stage.origins, Origins::default());
    assert_eq!(stage.limits, StageLimits::default());
    let plugin = only_plugin("");
    assert_eq!(plugin.component, Component::File("folder/chat.wasm".into()));
    assert_eq!(plugin.grants, Grants::default());
    assert_eq!(plugin.isolation, Isolation::Reused);
    assert_eq!(plugin.limits, PluginLimits::default());
}

#[test]
fn limits_are_read_as_bytes_and_durations() {
    let limits = only_stage("limits = { idle_timeout_s = 600, ping_interval_s = 0 }").limits;
    assert_eq!(limits.message_bytes, 128 * 1024);
    assert_eq!(limits.idle_timeout, Some(Duration::from_secs(600)));
    assert_eq!((limits.max_age, limits.ping_interval), (None, None));
    let limits = only_plugin("limits = { memory_mib = 512, deadline_ms = 200 }").limits;
    assert_eq!(limits.memory_bytes, 512 * 1024 * 1024);
    assert_eq!(limits.deadline, Duration::from_millis(200));
}

#[test]
fn default_follows_the_limit_that_it_depends_on() {
    let limits = only_stage("limits = { message_kib = 2048 }").limits;
    assert_eq!(limits.frame_bytes, 2048 * 1024);
    assert_eq!(limits.outbox_bytes, 2048 * 1024);
    let limits = only_plugin("limits = { deadline_ms = 20 }").limits;
    assert_eq!(limits.cpu, Duration::from_millis(20));
}

#[track_caller]
fn check_origins(more: &str, any: bool, same_host: bool, list: &[&str]) {
    let parsed = list.iter().map(|origin| OriginPattern::parse(origin));
    let list = parsed.collect::<Option<_>>().expect("they are origins");
    assert_eq!(
        only_stage(more).origins,
        Origins {
            any,
            same_host,
            list
        }
    );
}

#[test]
fn origins_default_to_self() {
    check_origins("", false, true, &[]);
    check_origins("origins = []", false, false, &[]);
    check_origins(
        "origins = [\"HTTPS://A.b:443\"]",
        false,
        false,
        &["https://a.b"],
    );
    check_origins(
        "origins = [\"self\", \"http://a\"]",
        false,
        true,
        &["http://a"],
    );
    check_origins(
        "origins = [\"https://*.a.b\", \"null\", \"file://\"]",
        false,
        false,
        &["https://*.a.b", "null", "file://"],
    );
    check_origins("allow_any_origin = true", true, true, &[]);
}

#[track_caller]
fn check_listener(more: &str, tls: &Tls, http2: bool) {
    let text = with("").replace(":0\" }", &format!(":0\", {more} }}"));
    let config = parse(&text);
    let listener = config.listeners.first().expect("there is a listener");
    assert_eq!((&listener.tls, listener.http2), (tls, http2));
}

#[test]
fn http2_is_on_by_default_with_tls() {
    check_listener("tls = \"off\"", &Tls::Off, false);
    check_listener("tls = \"self-signed\"", &Tls::SelfSigned, true);
    check_listener(
        "tls = \"self-signed\", http2 = false",
        &Tls::SelfSigned,
        false,
    );
    let files = Tls::Files(vec![CertificateFiles {
        certificate: "folder/a.pem".into(),
        key: "/b.pem".into(),
    }]);
    check_listener(
        "tls = { certificate = \"a.pem\", key = \"/b.pem\" }",
        &files,
        true,
    );
}

#[test]
fn quic_is_off_and_an_explicit_false_is_kept() {
    for (more, quic) in [
        ("tls = \"self-signed\"", None),
        ("tls = \"self-signed\", quic = true", Some(true)),
        ("quic = false", Some(false)),
    ] {
        let config = parse(&with("").replace(":0\" }", &format!(":0\", {more} }}")));
        assert_eq!(
            config.listeners.first().map(|listener| listener.quic),
            Some(quic)
        );
    }
}

#[test]
fn variables_expand_in_values_but_not_in_expressions() {
    let stage = only_stage("variables = { a = \"${LOCKGATE_UNSET:-b}\", c = \"$${d}\" }");
    let values: Vec<&str> = stage.variables.values().map(String::as_str).collect();
    assert_eq!(values, ["b", "${d}"]);
    let config = parse(&with(
        "apis.chat.route_selection_expression = \"${request.body.action}\"",
    ));
    assert_eq!(config.apis.len(), 1);
}

#[test]
fn all_mistakes_of_a_file_are_reported_in_order() {
    let text = "listeners = [{ address = 1 }]\napis = { \"a b\" = {}, c = 2 }\nlog = { levl = 3 }\n\
                plugins.p = { component = \"x\", limits = { posts = -1 } }\n";
    let problems = Config::parse(text, Path::new("f")).expect_err("the file is wrong");
    let found: Vec<(usize, usize, &str)> = problems
        .0
        .iter()
        .map(|problem| (problem.line, problem.column, problem.key.as_str()))
        .collect();
    let expected = [
        (1, 26, "listeners[0].address"),
        (2, 10, "apis.\"a b\""),
        (2, 10, "apis.\"a b\".stages"),
        (2, 26, "apis.c"),
        (3, 9, "log.levl"),
        (4, 51, "plugins.p.limits.posts"),
    ];
    assert_eq!(found, expected);
}

/// Every key is documented and stands in the file of all keys; every number has both bounds.
#[test]
fn schema_is_complete() {
    const EVERY_KEY: &str = include_str!("../../../../tests/configs/good/every-key.toml");
    fn walk(at: &str, schema: &Value) {
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            let at = format!("{at}.{name}");
            assert!(EVERY_KEY.contains(name), "every-key.toml has no {at}");
            assert!(
                schema.get("description").is_some(),
                "{at} has no description"
            );
            walk(&at, schema);
        }
        if schema.get("type").is_some_and(|kind| kind == "integer") {
            for bound in ["minimum", "maximum"] {
                assert!(
                    schema.get(bound).is_some_and(Value::is_i64),
                    "{at} has no {bound}"
                );
            }
        }
        for name in ["additionalProperties", "items"] {
            if let Some(schema) = schema.get(name) {
                walk(&format!("{at}.*"), schema);
            }
        }
        for schema in schema
            .get("anyOf")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            walk(at, schema);
        }
    }
    let schema: Value = serde_json::from_str(&schema()).expect("it is JSON");
    walk("", &schema);
    let deadline =
        "/properties/plugins/additionalProperties/properties/limits/properties/deadline_ms";
    let deadline = schema.pointer(deadline).expect("the key is there");
    assert_eq!(deadline.get("default"), Some(&Value::from(3_000)));
    let told = deadline.get("description").and_then(Value::as_str);
    assert!(told.is_some_and(|told| told.contains("waiting / instances + 1")));
    let text = schema.to_string();
    assert!(![":null", "\"null\""].iter().any(|null| text.contains(null)));
}

/// The API of a file with these lines in its table, and these limits of its stage.
fn api(lines: &str, limits: &str) -> Api {
    let text = with(lines).replace(
        "prod = {}",
        &format!("prod = {{ limits = {{ {limits} }} }}"),
    );
    parse(&text).apis.pop().expect("there is an API")
}

/// The table in `docs/api-gateway.md`: what it says of each key is what the model has.
#[test]
fn compat_changes_the_defaults_that_the_page_lists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let page = root
        .expect("the package has a folder")
        .join("docs/api-gateway.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let (_, table) = page
        .split_once("| key | default | with `compat = \"aws\"` |")
        .expect("the page has the table");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut written = [
        [String::new(), String::new()],
        [String::new(), String::new()],
    ];
    let mut count = 0;
    for row in rows {
        let cells: Vec<_> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [key, values @ ..] = cells.as_slice() else {
            panic!("{row}")
        };
        let key = key.split('`').nth(1).expect("a key");
        for (written, value) in written.iter_mut().zip(values) {
            let value = value.trim().replace("`message_kib`", "128");
            let [lines, limits] = written;
            match key.strip_prefix("limits.") {
                Some(limit) => limits.push_str(&format!("{limit} = {value}, ")),
                None => lines.push_str(&format!("apis.chat.{key} = {value}\n")),
            }
        }
        count += 1;
    }
    assert_eq!(count, 5);
    let as_aws = "apis.chat.compat = \"aws\"\n";
    let [defaults, theirs] =
        written.map(|[lines, limits]| (lines, limits.trim_end_matches(", ").to_owned()));
    let with_compat = |mut api: Api| {
        for stage in &mut api.stages {
            stage.limits.compat = Compat::Aws;
        }
        api
    };
    assert_eq!(api("", ""), api(&defaults.0, &defaults.1));
    let written_out = with_compat(api(&theirs.0, &theirs.1));
    assert_eq!(api(as_aws, ""), written_out);
    // What is written holds beside it.
    let lines = format!("{as_aws}{}", defaults.0);
    let kept = with_compat(api("", ""));
    assert_eq!(api(&lines, &defaults.1), kept);
}
