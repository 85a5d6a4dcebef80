//! Settings that change under open connections, and changes that are refused.

use std::{
    cell::Cell,
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use lockgate_tests::{Client, Request, version, within};
use serde_json::json;
use tokio::net::TcpStream;

use crate::{
    LOCKGATE, probe_configuration,
    reload::{Served, expect},
};

#[tokio::test]
async fn whole_configuration_changes_under_open_connections() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    expect(&mut client, 1).await;

    // Routes, limits and origins count for the next message and the next handshake.
    served.edit("two_way = true", "two_way = false");
    served.reload().await;
    client.send("x").await;
    served.edit("two_way = false", "two_way = true");
    served.edit(
        "[apis.a.stages.s]",
        "[apis.a.stages.s]\norigins = [\"https://a.example\"]\nlimits = { message_kib = 1 }",
    );
    let said = served.reload().await;
    assert!(!said.contains("listener"), "{said}");
    expect(&mut client, 1).await;
    let foreign = served
        .gateway
        .ws("/s")
        .header("Origin", "https://b.example");
    assert_eq!(foreign.refused().await.status, 403);
    client.send("x".repeat(2000)).await;
    client.expect_close(1009, "message too big").await;

    // A removed stage closes its connections.
    let mut last = served.connect().await;
    served.edit("[apis.a.stages.s]", "[apis.a.stages.t]");
    let said = served.reload().await;
    assert!(said.contains("stage a/s: removed"), "{said}");
    last.expect_close(1001, "Going away").await;
    let mut renamed = served.gateway.connect("/t").await;
    expect(&mut renamed, 1).await;

    // One listener is added and one removed: connections of the removed one continue.
    let before = "[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = \"off\"\n";
    served.edit(
        before,
        "[[listeners]]\naddress = \"127.0.0.2:0\"\ntls = \"off\"\n",
    );
    let said = served.reload().await;
    assert!(
        said.contains("ws://127.0.0.2:") && said.contains("opened"),
        "{said}"
    );
    assert!(
        said.contains(&format!("ws://{}: closed", served.gateway.plain())),
        "{said}"
    );
    expect(&mut renamed, 1).await;
    let refused = TcpStream::connect(served.gateway.plain()).await;
    assert!(refused.is_err());

    // An address in use changes nothing.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    served.edit("127.0.0.2:0", &address.to_string());
    served.edit("[apis.a.stages.t]", "[apis.a.stages.u]");
    let said = served.refused().await;
    for part in [
        "gateway.toml:",
        " listeners[0].address: cannot listen on",
        "remedy: stop the process that listens there",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    expect(&mut renamed, 1).await;
}

/// A second API, at `/t`, with a plugin of its own.
const SECOND: &str = r#"
[apis.b.stages.t]
[apis.b.routes."$default"]
integration = "w"
two_way = true
[apis.b.routes."$disconnect"]
integration = "w"

[plugins.w]
component = "{probe}"
grants = ["connections", "groups"]
limits = { deadline_ms = 20000, retire_s = 1 }
"#;

impl Served {
    /// Removes the second API from the configuration, with its plugin.
    fn remove_second(&self) {
        let text = fs::read_to_string(self.file()).unwrap();
        let place = text.find("[apis.b.stages.t]").unwrap();
        fs::write(self.file(), &text[..place]).unwrap();
    }
}

#[tokio::test]
async fn removed_plugin_ends_within_its_own_retire_time() {
    let served = Served::with(SECOND).await;
    let mut waiting = served.gateway.connect("/t").await;
    let mut idle = served.gateway.connect("/t").await;
    let id = idle.id().await;
    waiting
        .send(r#"[{"do": "print", "text": "begun"}, {"do": "sleep", "ms": 15000}]"#)
        .await;
    let log = served.gateway.log();
    log.line(&["guest", "begun"]).await;
    served.remove_second();
    let said = served.reload().await;
    assert!(said.contains("plugin w: removed"), "{said}");
    let began = Instant::now();
    // The plugin stays for the `$disconnect` of the stage's connections, and then no longer than its `retire_s`.
    idle.expect_close(1001, "Going away").await;
    log.line(&[&format!("ended: {id} 1001")]).await;
    waiting.expect_error("Endpoint request timed out").await;
    waiting.expect_close(1001, "Going away").await;
    assert!(began.elapsed() < Duration::from_secs(12));
    log.line(&["interrupting the calls", "\"plugin\":\"w\""])
        .await;
}

#[tokio::test]
async fn waiting_disconnects_of_a_removed_plugin_run_to_their_end() {
    const CLIENTS: usize = 100;
    let few = SECOND.replace("retire_s = 1", "retire_s = 1, instances = 2");
    let served = Served::with(&few).await;
    // Together three times the `retire_s` that calls under way have.
    let farewell = json!([{"do": "sleep", "ms": 60}, {"do": "print", "text": "said"}]).to_string();
    let remember = json!([{"do": "set", "name": "farewell", "value": farewell}]).to_string();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = served.gateway.connect("/t").await;
        client.send(&remember).await;
        client.text().await;
        clients.push(client);
    }
    for client in clients {
        client.vanish();
    }
    let log = served.gateway.log();
    log.line(&["guest", "\"message\":\"said"]).await;
    served.remove_second();
    let said = served.reload().await;
    assert!(said.contains("plugin w: removed"), "{said}");
    log.nth_line(CLIENTS - 1, &["guest", "\"message\":\"said"])
        .await;
    assert!(!log.contains(&["cut off"]) && !log.contains(&["interrupting the calls"]));
}

/// The value of the stage's variable `v`, as a handler sees it.
async fn variable(client: &mut Client) -> String {
    client.send("variable v").await;
    let text = client.text().await;
    text.split_once(' ').unwrap().1.to_owned()
}

#[tokio::test]
async fn changed_variables_count_for_the_next_message() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    assert_eq!(variable(&mut client).await, "");
    served.edit(
        "[apis.a.stages.s]",
        "[apis.a.stages.s]\nvariables = { v = \"one\" }",
    );
    let said = served.reload().await;
    assert!(said.contains("stage a/s: changed"), "{said}");
    assert_eq!(variable(&mut client).await, "one");
    served.edit("\"one\"", "\"two\"");
    served.reload().await;
    assert_eq!(variable(&mut client).await, "two");
    served.edit("variables = { v = \"two\" }", "");
    served.reload().await;
    assert_eq!(variable(&mut client).await, "");
}

#[tokio::test]
async fn plugin_whose_needed_grant_is_removed_stays_as_it_was() {
    let served = Served::with(SECOND).await;
    let mut client = served.gateway.connect("/t").await;
    let join = json!({"do": "join", "group": "lobby"});
    let count = json!({"do": "count", "group": "lobby"});
    assert_eq!(client.step(join).await, "ok");
    served.edit("[\"connections\", \"groups\"]", "[\"connections\"]");
    // The other changes of the file are refused with it.
    served.edit("[apis.a.stages.s]", "[apis.a.stages.other]");
    let said = served.refused().await;
    for part in [
        "plugins.w.component",
        "lockgate:plugin/groups@0.1.0",
        "not granted",
        "remedy: add \\\"groups\\\" to its grants",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(client.step(count.clone()).await, 1);
    let mut first = served.connect().await;
    expect(&mut first, 1).await;
    assert_eq!(served.gateway.ws("/other").refused().await.status, 403);
    served.edit("[\"connections\"]", "[\"connections\", \"groups\"]");
    served.reload().await;
    assert_eq!(client.step(count).await, 1);
}

/// Its next ping is when a client that sends nothing meets the limits of a reload.
#[tokio::test]
async fn silent_connection_takes_the_limits_of_a_reload() {
    let served = Served::new().await;
    let stage = "[apis.a.stages.s]";
    let with = |limits: &str| format!("{stage}\nlimits = {{ ping_interval_s = 1{limits} }}");
    served.edit(stage, &with(""));
    served.reload().await;
    let mut silent = served.gateway.connect("/s").await;
    let began = Instant::now();
    served.edit(&with(""), &with(", idle_timeout_s = 2"));
    served.reload().await;
    silent.expect_close(1001, "Going away").await;
    // Its silence before the reload does not count.
    assert!(began.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn talking_connection_takes_the_limits_of_a_reload_without_pings() {
    let served = Served::new().await;
    let stage = "[apis.a.stages.s]";
    let with = |limits: &str| format!("{stage}\nlimits = {{ ping_interval_s = 0{limits} }}");
    served.edit(stage, &with(", idle_timeout_s = 600"));
    served.reload().await;
    let mut client = served.gateway.connect("/s").await;
    expect(&mut client, 1).await;
    served.edit(
        &with(", idle_timeout_s = 600"),
        &with(", idle_timeout_s = 1"),
    );
    served.reload().await;
    expect(&mut client, 1).await;
    client.expect_close(1001, "Going away").await;
}

/// A port on which nothing listens now, at any address.
fn free_port() -> u16 {
    let free = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    free.local_addr().unwrap().port()
}

#[tokio::test]
async fn address_that_contains_the_old_one_needs_no_restart() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    let port = free_port();
    let open = async |ip: &str| {
        let address = format!("{ip}:{port}").parse().unwrap();
        expect(&mut Request::new(address, "/s").open().await, 1).await;
    };
    let (one, all) = (format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}"));
    served.edit("127.0.0.1:0", &one);
    served.reload().await;
    open("127.0.0.1").await;
    for _ in 0..2 {
        served.edit(&one, &all);
        let said = served.reload().await;
        assert!(said.contains(&format!("ws://{all}: opened")), "{said}");
        open("127.0.0.2").await;
        open("127.0.0.1").await;
        served.edit(&all, &one);
        served.reload().await;
        closed(format!("127.0.0.2:{port}").parse().unwrap()).await;
        open("127.0.0.1").await;
    }
    // The management listener does not block a listener for clients either.
    served.edit(&one, &served.gateway.management().to_string());
    served.edit(
        "[management]\naddress = \"127.0.0.1:0\"",
        &format!("[management]\naddress = \"{one}\""),
    );
    served.reload().await;
    closed(served.gateway.plain()).await;
    let address = served.gateway.management();
    expect(&mut Request::new(address, "/s").open().await, 1).await;
    expect(&mut client, 1).await;
}

#[tokio::test]
async fn all_addresses_of_both_families_are_two_listeners() {
    let port = free_port();
    let configuration = format!(
        "[[listeners]]\naddress = \"[::]:{port}\"\ntls = \"off\"\n\
         [[listeners]]\naddress = \"0.0.0.0:{port}\"\ntls = \"off\"\n{}",
        probe_configuration("", "")
    );
    let gateway = LOCKGATE.serve_as_written(&configuration).await;
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        Request::new(address.parse().unwrap(), "/s")
            .open()
            .await
            .id()
            .await;
    }
    assert!(!gateway.log().contains(&["takes IPv6 only"]));
    // A listener of one family takes that family alone.
    let port = free_port();
    let configuration = format!(
        "[[listeners]]\naddress = \"[::]:{port}\"\ntls = \"off\"\n{}",
        probe_configuration("", "")
    );
    let gateway = LOCKGATE.serve_as_written(&configuration).await;
    let address = format!("[::1]:{port}").parse().unwrap();
    Request::new(address, "/s").open().await.id().await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    let said = format!("for IPv4 add a listener on 0.0.0.0:{port}");
    gateway.log().line(&[&said]).await;
}

/// Share changes come so fast that each attempt to prepare the reload would be overtaken.
#[tokio::test]
async fn reload_amid_share_changes_ends_and_its_listener_serves_at_once() {
    let served = Served::new().await;
    let component = served.component.with_file_name("2.wasm");
    fs::write(&component, version(2, '-')).unwrap();
    let before = served.component.to_str().unwrap();
    served.edit(before, component.to_str().unwrap());
    // It is prepared after the other, in a process of its own: there is always time for a share in between.
    let last = format!("[plugins.w]\ncomponent = {component:?}\n[log]");
    served.edit("[log]", &last);
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    served.edit("127.0.0.1:0", &address.to_string());
    let over = Cell::new(false);
    let changes = async {
        for share in (1..=100).cycle().take_while(|_| !over.get()) {
            let body = format!("{{\"share\": {share}}}");
            let (status, said) = served.gateway.post("/plugins/v/rollout", &body).await;
            assert_eq!(status, 200, "{said}");
        }
    };
    let reload = async {
        served.reload().await;
        over.set(true);
    };
    let client = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
        let mut client = Request::new(address, "/s").open().await;
        client.send("x").await;
        client.text().await
    };
    let all = async { tokio::join!(changes, reload, client) };
    within("a reload amid share changes", all).await;
}

/// Waits until nothing listens there.
async fn closed(address: SocketAddr) {
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within("the end of a listener", refused).await;
}

#[tokio::test]
async fn management_listener_moves_and_the_process_stays() {
    let served = Served::new().await;
    let mut client = served.connect().await;
    let before = served.gateway.management();
    let log = served.gateway.log();

    // An address in use changes nothing.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let management = "[management]\naddress = ";
    let written = format!("{management}\"127.0.0.1:0\"");
    served.edit(&written, &format!("{management}\"{address}\""));
    let said = served.refused().await;
    let at = "management.address: cannot listen on";
    assert!(
        said.contains("gateway.toml:") && said.contains(at),
        "{said}"
    );
    assert_eq!(served.gateway.page("/healthz").await.0, 200);

    served.edit(
        &format!("{management}\"{address}\""),
        &format!("{management}\"127.0.0.2:0\""),
    );
    let said = served.reload().await;
    let opened = said.split_once("management 127.0.0.2:").unwrap().1;
    let port = opened.split_once(':').unwrap().0;
    let now = format!("127.0.0.2:{port}");
    closed(before).await;
    expect(&mut client, 1).await;
    let ended = LOCKGATE
        .run(&["plugins", "list", "--management", &now])
        .await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);

    // A reload through the new listener removes it; a signal still reloads.
    served.edit(&format!("{management}\"127.0.0.2:0\""), "");
    let ended = LOCKGATE.run(&["reload", "--management", &now]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.error);
    closed(now.parse().unwrap()).await;
    served.edit(
        "[apis.a.stages.s]",
        "[apis.a.stages.s]\n[apis.a.stages.more]",
    );
    served.gateway.hang_up();
    log.line(&["SIGHUP", "stage a/more: added"]).await;
    expect(&mut client, 1).await;
}

#[tokio::test]
async fn changed_gateway_limits_count_for_the_next_connect() {
    let served = Served::new().await;
    let mut first = served.connect().await;
    let second = served.connect().await;
    served.edit(
        "[apis.a.stages.s]",
        "[limits]\nconnections = 2\n[apis.a.stages.s]",
    );
    let said = served.reload().await;
    assert!(said.contains("limits: changed"), "{said}");
    assert_eq!(served.gateway.ws("/s").refused().await.status, 503);
    served.edit("connections = 2", "connections = 3");
    served.reload().await;
    let third = served.connect().await;
    assert_eq!(served.gateway.ws("/s").refused().await.status, 503);
    // A limit below the number of open connections closes none of them.
    served.edit("connections = 3", "connections = 1");
    served.reload().await;
    expect(&mut first, 1).await;
    drop((second, third));
}

#[tokio::test]
async fn log_level_changes_by_a_reload() {
    let served = Served::new().await;
    let log = served.gateway.log();
    served.edit("info,lockgate=debug", "warn");
    let said = served.reload().await;
    assert!(said.contains("log: changed"), "{said}");
    drop(served.gateway.connect("/s").await);
    // Later lines of the log come after earlier ones.
    served.edit("level = \"warn\"", "level = \"info\"");
    served.reload().await;
    let mut client = served.connect().await;
    expect(&mut client, 1).await;
    log.line(&["INFO", "\"connected\""]).await;
    let connected = log.lines();
    let connected = connected
        .iter()
        .filter(|line| line.contains("\"connected\""));
    assert_eq!(connected.count(), 1);
}

/// A removed stage runs its `$disconnect` handlers on the newest version of its plugin.
#[tokio::test]
async fn connections_of_a_removed_stage_have_their_disconnects() {
    let served = Served::with(SECOND).await;
    // A route of the first stage, so that the plugin stays.
    served.edit(
        "[apis.b.stages.t]",
        "[apis.a.routes.w]\nintegration = \"w\"\n[apis.b.stages.t]",
    );
    served.reload().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = served.gateway.connect("/t").await;
        let id = client.id().await;
        clients.push((client, id));
    }
    served.edit("[apis.b.stages.t]", "[apis.b.stages.u]");
    served.edit("retire_s = 1", "retire_s = 2");
    let said = served.reload().await;
    assert!(
        said.contains("stage b/t: removed") && said.contains("plugin w: version 2"),
        "{said}"
    );
    // A second reload, before the clients have answered their close.
    served.edit("retire_s = 2", "retire_s = 3");
    served.reload().await;
    for (client, id) in &mut clients {
        client.expect_close(1001, "Going away").await;
        served
            .gateway
            .log()
            .line(&[&format!("ended: {id} 1001")])
            .await;
    }
    assert!(
        !served
            .gateway
            .log()
            .contains(&["no longer in the configuration"])
    );
}

/// Its new socket is the better match for a client: it is not to be there before it is known that it will serve.
#[tokio::test]
async fn listener_that_moves_into_its_old_address_takes_no_client_before_all_is_judged() {
    let configuration = format!("[limits]\npull_s = 6\n{}", probe_configuration("", ""));
    let gateway = LOCKGATE.serve(&configuration).await;
    let address = gateway.plain();
    let all = format!("0.0.0.0:{}", address.port());
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    let wide = text.replacen("127.0.0.1:0", &all, 1);
    fs::write(&file, &wide).unwrap();
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{said}");

    // A registry that never answers.
    let registry = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = format!(
        "{}\n[registries.\"{host}\"]\nplain_http = true\n[plugins.slow]\n\
         component = \"oci://{host}/slow@sha256:{}\"\n",
        wide.replacen(&all, &address.to_string(), 1),
        "0".repeat(64),
        host = registry.local_addr().unwrap(),
    );
    fs::write(&file, slow).unwrap();
    let served = async {
        let _held = within("the reload to begin", registry.accept()).await;
        let attempt = tokio::time::timeout(Duration::from_secs(4), gateway.connect("/s"));
        attempt.await.expect("served while a reload is judged")
    };
    let ((status, said), mut client) = tokio::join!(gateway.post("/reload", "{}"), served);
    assert_eq!(status, 422, "{said}");
    client.id().await;
    gateway.connect("/s").await.id().await;
}
