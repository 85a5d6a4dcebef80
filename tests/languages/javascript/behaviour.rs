//! What a plugin in JavaScript can rely on, asked of one that runs.

use lockgate_tests::{Client, Gateway};

use crate::project::Project;

/// Each message is handled by a fresh instance: what the build has frozen would be the same in all of them.
const FRESH: &str = "isolation = \"per-message\"\n";

const PLUGIN: [(&str, &str); 2] = [
    ("src/plugin.js", include_str!("behaviour.js")),
    ("src/fail.js", include_str!("fail.js")),
];

async fn project(name: &str) -> Project {
    let project = Project::named(name, "js", "echo").await;
    for (file, text) in PLUGIN {
        project.save(file, text);
    }
    let configuration = project.read("gateway.toml");
    let configuration =
        configuration.replace("grants = []", "grants = [\"connections\", \"groups\"]");
    let guarded = format!(
        "[apis.{name}.routes.renew]\nintegration = \"{name}\"\ntwo_way = true\nrenews = \"handler\"\n\
         [apis.{name}.stages.guarded]\nauthorizer = \"halves\"\n[authorizers.halves]\nplugin = \"{name}\"\n"
    );
    project.save("gateway.toml", &format!("{configuration}{FRESH}{guarded}"));
    let manifest = project.read("package.json").replacen(
        "\"type\": \"module\"",
        "\"type\": \"module\",\n  \"lockgate\": { \"authorizer\": true }",
        1,
    );
    project.save("package.json", &manifest);
    project
}

pub(crate) async fn handler_has_the_platform_and_its_errors_name_the_author_s_lines() {
    let project = project("js-behaviour").await;
    let gateway = project.dev("gateway.toml").await;
    let mut client = gateway.connect("/dev?name=ada").await;
    let header = |name| client.answer().header(name).map(str::to_owned);
    assert_eq!(header("x-version").as_deref(), Some("1.1"));
    assert_eq!(header("x-path").as_deref(), Some("/dev"));

    fresh_values(&mut client).await;
    waits(&mut client).await;
    let expected = r#"[[1],"grüße 🎉",1,"https://user@example.com:8443/b?c=1#d","a,1;b,ü;a,2","hi","6869","8f434346","a-1",false,"abort","delayed","store",[1,2],"undefined"]"#;
    assert_eq!(asked(&mut client, "platform").await, expected);
    let gone = asked(&mut client, "gone").await;
    assert_eq!(gone, "GatewayError gone the connection is gone");
    client.send("half").await;
    client.expect("{\"half \u{fffd}\":\"\u{fffd}\"}").await;
    client.expect("half \u{fffd}").await;
    let mut guarded = gateway.connect("/guarded").await;
    let who = asked(&mut guarded, "who").await;
    assert_eq!(who, "[\"half \u{fffd}\",{\"half \u{fffd}\":\"\u{fffd}\"}]");
    guarded.send("{\"action\":\"renew\"}").await;
    let renewed = "{\"half \u{fffd}\":\"\u{fffd}\",\"more\":1.5,\"yes\":true}";
    let who = format!("[\"half \u{fffd}\",{renewed}]");
    guarded.expect(&who).await;
    assert!(!gateway.log().contains(&["trap"]));
    client.send("binary").await;
    assert_eq!(&*client.binary().await, [1, 2, 3]);
    failures(&gateway, &mut client).await;
    refusals(&gateway).await;

    client.close(1000, "").await;
    let at_the_end = [
        "ERROR",
        "disconnect: Error: at the end, with 1000 at fail (src/fail.js:3) at disconnect (src/plugin.js:",
    ];
    gateway.log().line(&at_the_end).await;
}

/// Keeps what nobody cleans, as a `Map` in a module does.
const LEAK: &str = r#"
import { define } from "@lockgate/sdk";

const kept = new Map();

export default define({
  message(event, message) {
    if (message === "leak") for (let i = 0; i < 3000; i++) kept.set(`${kept.size}`, { at: i, by: `user ${i}` });
    return `${kept.size}`;
  },
});
"#;

/// The engine throws when it has no memory, and what the plugin keeps would have each later event fail too.
pub(crate) async fn memory_that_a_handler_leaks_is_given_back_with_its_instance() {
    let project = Project::named("js-leak", "js", "echo").await;
    project.save("src/plugin.js", LEAK);
    let limits = "limits = { instances = 1, memory_mib = 8, cpu_ms = 1000 }";
    let configuration = project.read("gateway.toml");
    project.save("gateway.toml", &format!("{configuration}\n{limits}\n"));
    let gateway = project.dev("gateway.toml").await;
    let mut client = gateway.connect("/dev").await;
    for times in 0..3 {
        let mut leaked = 0;
        loop {
            client.send("leak").await;
            let answer = client.text().await;
            let Ok(kept) = answer.parse::<u32>() else {
                break;
            };
            assert!(kept > leaked, "{kept} after {leaked}");
            leaked = kept;
        }
        assert!(leaked > 0);
        let words = ["WARN", "refused memory", "8 MiB is limits.memory_mib"];
        gateway.log().nth_line(times, &words).await;
        client.send("count").await;
        client.expect("0").await;
    }
}

/// Random numbers and the time are the instance's own.
async fn fresh_values(client: &mut Client) {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let values = asked(client, "random").await;
        seen.extend(values.split(' ').map(str::to_owned));
    }
    assert_eq!(seen.len(), 9, "{seen:?}");
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 9, "{seen:?}");

    let time: u64 = asked(client, "time").await.parse().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    assert!(
        now.abs_diff(time.into()) < 20_000,
        "{time}, and it is {now}"
    );
}

async fn waits(client: &mut Client) {
    let waited: u64 = asked(client, "wait").await.parse().unwrap();
    assert!(waited >= 60, "{waited}");
    let together = asked(client, "together").await;
    assert!(together.starts_with("2,4,6 "), "{together}");
}

async fn failures(gateway: &Gateway, client: &mut Client) {
    let log = gateway.log();
    for (what, logged) in [
        (
            "throws",
            "Error: no such room at fail (src/fail.js:3) at <anonymous> (src/plugin.js:",
        ),
        ("throwsText", "the handler failed: a text"),
        ("throwsObject", "thrown: { code: 7 }"),
        ("throwsNull", "thrown: null"),
        ("throwsHalf", "Error: half \u{fffd} of a pair at"),
        ("throwsInACircle", "; the cause: Error: round at"),
        (
            "throwsSeveral",
            "AggregateError: All promises were rejected; one of its errors: Error: first at throwsSeveral (src/plugin.js:",
        ),
        ("throwsTheUnreadable", "an error that cannot be shown"),
        ("throwsMuch", "Error: \u{fc}\u{fc}\u{fc}"),
        (
            "wrong",
            "message: the returned value is an object; a message is a string or a Uint8Array; send an object as json(value)",
        ),
        ("never", "the handler's promise is never settled"),
    ] {
        client.send(what).await;
        client.expect_error("Internal server error").await;
        log.line(&["WARN", logged]).await;
    }
    assert_eq!(asked(client, "forgotten").await, "answered");
    let unhandled = "unhandled: Error: nobody handles it at forgotten (src/plugin.js:";
    log.line(&["WARN", unhandled]).await;

    assert_eq!(asked(client, "log").await, "logged");
    for line in [
        ["INFO", "a line of text { rooms: [ 'lobby' ] }"],
        ["INFO", "gr\u{fc}\u{df}e \u{1f389}, half \u{fffd} of a pair"],
        ["WARN", "careful"],
        ["INFO", "long end"],
        ["ERROR", "Error: shown"],
        ["ERROR", "at log (src/plugin.js:"],
    ] {
        log.line(&line).await;
    }
}

async fn refusals(gateway: &Gateway) {
    let log = gateway.log();
    for (query, status, body, logged) in [
        (
            "refuse=1",
            403,
            "members only",
            "refused with 403: Error: no ticket at connect (src/plugin.js:",
        ),
        (
            "fail=1",
            500,
            "Internal Server Error",
            "refused with 500: Error: no database at fail (src/fail.js:3) at connect (src/plugin.js:",
        ),
    ] {
        let refused = gateway.ws(&format!("/dev?{query}")).refused().await;
        assert_eq!(refused.status, status, "{}", refused.text());
        assert!(refused.text().contains(body), "{}", refused.text());
        log.line(&["ERROR", logged]).await;
    }
    for (query, status, body) in [
        ("half=1", 403, "half \u{fffd}"),
        ("headers=1", 502, "Bad Gateway"),
    ] {
        let refused = gateway.ws(&format!("/dev?{query}")).refused().await;
        assert_eq!(refused.status, status, "{query}: {}", refused.text());
        assert!(refused.text().contains(body), "{}", refused.text());
    }
}

/// Modules that ask for a random number when they are loaded get each instance's own.
pub(crate) async fn value_made_when_a_module_is_loaded_differs_in_each_instance() {
    let project = Project::named("js-loaded", "js", "echo").await;
    let configuration = project.read("gateway.toml");
    project.save("gateway.toml", &format!("{configuration}{FRESH}"));
    let plugin = r#"
import { define } from "@lockgate/sdk";

const id = crypto.randomUUID();
const began = Date.now();

export default define({ message: () => `${id} ${began}` });
"#;
    project.save("src/plugin.js", plugin);
    let built = project.lockgate(&["build", "."]).await;
    assert_eq!(built.code, Some(0), "{}", built.error);
    let note = "note: random numbers at <anonymous> (src/plugin.js:4): a module asks for it when it is loaded";
    assert!(built.error.contains(note), "{}", built.error);

    let gateway = project.dev("gateway.toml").await;
    let mut client = gateway.connect("/dev").await;
    let (first, second) = (asked(&mut client, "a").await, asked(&mut client, "b").await);
    let id = |text: &str| text.split(' ').next().unwrap().to_owned();
    assert_ne!(id(&first), id(&second));
}

pub(crate) async fn module_that_a_plugin_cannot_have_is_named_with_its_import() {
    let project = Project::named("js-modules", "js", "echo").await;
    for (text, told) in [
        (
            "import { readFile } from \"node:fs/promises\";\nreadFile;\n",
            [
                "\"node:fs/promises\" is not there in a plugin",
                "src/plugin.js:1:25",
            ],
        ),
        (
            "import nothing from \"left-pad/lib\";\nnothing;\n",
            ["src/plugin.js:1:20", "npm install left-pad\n"],
        ),
        (
            "await Promise.resolve();\n",
            ["a plugin has no top-level await", "src/plugin.js:1:0"],
        ),
        (
            "export default { message() {} };\n",
            [
                "the plugin's module has to export default define({ connect, message, disconnect })",
                "its default export is an object that define has not made",
            ],
        ),
        (
            "null.x;\n",
            [
                "the plugin fails when its modules are loaded",
                "(src/plugin.js:1)",
            ],
        ),
    ] {
        project.save("src/plugin.js", text);
        let built = project.lockgate(&["build", "."]).await;
        assert_eq!(built.code, Some(1), "{text}");
        for part in told {
            assert!(built.error.contains(part), "{part}: {}", built.error);
        }
    }
}

/// A bundler only drops types: the project's compiler looks at them beside it.
pub(crate) async fn mistake_in_types_is_said_and_the_plugin_is_built() {
    let project = Project::named("ts-types", "ts", "echo").await;
    let plugin = r#"
import { define } from "@lockgate/sdk";

export default define({ message: (event, message) => message.size });
"#;
    project.save("src/plugin.ts", plugin);
    let built = project.lockgate(&["build", "."]).await;
    assert_eq!(built.code, Some(0), "{}", built.error);
    for said in [
        "src/plugin.ts(4,62): error TS2339: Property 'size' does not exist",
        "note: types do not agree; the plugin is built all the same",
    ] {
        assert!(built.error.contains(said), "{said}: {}", built.error);
    }
}

/// The other engine, by a word in package.json. npm installs it, and its component has 13 MB: it takes minutes.
pub(crate) async fn plugin_of_starlingmonkey_has_its_web_apis() {
    let project = Project::named("js-monkey", "js", "echo").await;
    let manifest = project.read("package.json").replacen(
        "\"type\": \"module\"",
        "\"type\": \"module\",\n  \"lockgate\": { \"engine\": \"starlingmonkey\" }",
        1,
    );
    project.save("package.json", &manifest);
    let plugin = r#"
import { connections, define } from "@lockgate/sdk";

export default define({
  async message({ connectionId }, message) {
    if (message === "throw") throw new Error("on purpose");
    console.warn("gr\u00fc\u00dfe, half \ud800 of a pair");
    await new Promise((resolve) => setTimeout(resolve, 5));
    connections.setAttribute(connectionId, "kind", typeof Headers);
    const text = new TextDecoder("utf-16le").decode(new Uint8Array([104, 0]));
    return `${text} ${new Blob(["abc"]).size} ${connections.attribute(connectionId, "kind")} \udc00`;
  },
});
"#;
    project.save("src/plugin.js", plugin);
    let gateway = project.dev(".").await;
    let mut client = gateway.connect("/dev").await;
    client.send("hi").await;
    client.expect("h 3 function \u{fffd}").await;
    let log = gateway.log();
    log.line(&["WARN", "gr\u{fc}\u{df}e, half \u{fffd} of a pair"])
        .await;
    client.send("throw").await;
    client.expect_error("Internal server error").await;
    log.line(&["Error: on purpose at (src/plugin.js:6)"]).await;
}

async fn asked(client: &mut Client, what: &str) -> String {
    client.send(what).await;
    client.text().await
}
