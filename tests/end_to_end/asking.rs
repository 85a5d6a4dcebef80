//! Commands find the gateway that they are about, and give the reason if they cannot ask it or it does nothing.

use std::fs;

use lockgate_tests::{Gateway, PATIENCE, replace, version};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

use crate::{
    LOCKGATE, probe_configuration,
    reload::{Served, expect},
    upgrade::{begin_endless_upgrade, linked},
};

/// A server that holds each connection silently, closes it, or answers as a web server, by `answer`: none, empty, or a
/// page. Returns its address.
async fn other_server(servers: &mut JoinSet<()>, answer: Option<&'static str>) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    servers.spawn(async move {
        let Some(answer) = answer else {
            return std::future::pending::<()>().await;
        };
        while let Ok((mut stream, _)) = socket.accept().await {
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

const WEB_PAGE: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<html></html>";

#[tokio::test]
async fn gateway_is_found_by_its_file_even_with_mistakes_in_it() {
    let mut servers = JoinSet::new();
    let served = Served::new().await;
    let file = served.file();
    let good = fs::read_to_string(&file).unwrap();
    let run = async |words: &[&str]| LOCKGATE.run(words).await;
    let list = ["plugins", "list", "--config", file.to_str().unwrap()];
    let reload = ["reload", file.to_str().unwrap()];
    // Another gateway has taken the address, or a silent server has.
    let other = Served::new().await;
    for address in [
        other_server(&mut servers, None).await,
        other_server(&mut servers, Some(WEB_PAGE)).await,
        other.gateway.plain().to_string(),
    ] {
        let management = format!("[management]\naddress = \"{address}\"");
        let from = "[management]\naddress = \"127.0.0.1:0\"";
        fs::write(&file, good.replace(from, &management)).unwrap();
        let ended = run(&list).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let ended = run(&reload).await;
        assert!(
            ended.error.contains("management.address: cannot listen on"),
            "{ended:?}"
        );
    }
    // A mistake in the file does not prevent a rollback.
    fs::write(&file, &good).unwrap();
    replace(&served.component, &version(2, '-'));
    served.reload().await;
    for (place, wrong) in [
        "[apis.a.stages.t]\nvariables = { a = \"${LOCKGATE_UNSET}\" }",
        "what = [",
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&file, format!("{good}\n{wrong}\n")).unwrap();
        let ended = run(&[
            "plugins",
            "rollback",
            "v",
            "--config",
            file.to_str().unwrap(),
        ])
        .await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        expect(&mut served.connect().await, 1 + u32::from(place == 1)).await;
        // A reload is refused with the mistake.
        let ended = run(&reload).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.error.contains("gateway.toml:"), "{ended:?}");
    }
}

#[tokio::test]
async fn server_that_is_no_management_listener_is_named_as_such() {
    let mut servers = JoinSet::new();
    let served = Served::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.toml");
    let client_port = served.gateway.plain().to_string();
    for (address, why) in [
        (client_port, "is not the management listener"),
        (
            other_server(&mut servers, Some(WEB_PAGE)).await,
            "is not the management listener",
        ),
        (
            other_server(&mut servers, Some("")).await,
            "closed before an answer came",
        ),
        (other_server(&mut servers, None).await, "no answer from"),
    ] {
        // A mistake elsewhere in the file does not matter.
        let text = format!("management.address = \"{address}\"\nlimits.drain_s = \"x\"");
        fs::write(&file, text).unwrap();
        let rollback = ["plugins", "rollback", "v", "--config"];
        for words in [
            &["reload", "--management", &address][..],
            &["upgrade", file.to_str().unwrap()],
            &[&rollback[..], &[file.to_str().unwrap()]].concat(),
        ] {
            let ended = LOCKGATE.run(words).await;
            assert_eq!(ended.code, Some(1), "{ended:?}");
            let line = ended.error.trim_end();
            assert!(line.contains(why) && line.contains(&address), "{ended:?}");
            assert!(!line.contains('\n'), "{ended:?}");
        }
    }
    let ended = served.command(&["plugins", "rollback", "../x"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let why = "no plugin is called \"../x\"";
    assert!(ended.error.contains(why), "{ended:?}");
}

#[tokio::test]
async fn upgrade_of_a_stopping_gateway_is_refused_at_once() {
    let configuration = format!("[limits]\ndrain_s = 60\n{}", probe_configuration("", ""));
    let mut gateway = LOCKGATE.serve(&configuration).await;
    // This client never answers its close, and so keeps the gateway running.
    let silent = gateway.ws("/s").open_raw().await;
    gateway.terminate();
    gateway.log().line(&["\"stopping\""]).await;
    let address = gateway.management().to_string();
    let ended = LOCKGATE.run(&["upgrade", &address]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.error.contains("the gateway is stopping"), "{ended:?}");
    assert!(gateway.is_running());
    drop(silent);
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn commands_while_a_new_process_loads_are_refused_with_the_reason() {
    let mut gateway = linked("drain_s = 0\nupgrade_s = 3600").await;
    let started = begin_endless_upgrade(&gateway).await;
    let address = gateway.management().to_string();
    let rollback = ["plugins", "rollback", "probe", "--management", &address];
    for words in [&["upgrade", "--management", &address][..], &rollback] {
        let ended = LOCKGATE.run(words).await;
        assert_eq!(ended.code, Some(1), "{words:?}: {ended:?}");
        assert!(ended.error.contains("an upgrade is under way"), "{ended:?}");
    }
    // After the failed upgrade the rollback is refused for another reason.
    started.terminate();
    gateway.log().line(&["no upgrade"]).await;
    let ended = LOCKGATE.run(&rollback).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(!ended.error.contains("under way"), "{ended:?}");
    assert!(gateway.is_running());
}

#[tokio::test]
async fn command_says_which_of_two_gateways_of_one_file_it_asks() {
    let mut served = Served::new().await;
    let file = served.file();
    let words = ["run", file.to_str().unwrap()];
    let mut second =
        Gateway::start(LOCKGATE.command(&words), TempDir::new().unwrap(), PATIENCE).await;
    second
        .log()
        .line(&["WARN", "another gateway runs this file"])
        .await;
    let list = ["plugins", "list", "--config", file.to_str().unwrap()];
    let ended = LOCKGATE.run(&list).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (first_process, second_process) = (served.gateway.id(), second.id());
    let (first, address) = (served.gateway.management(), second.management());
    let said = format!(
        "process {first_process} ({first}) is asked; for process {second_process}, write --management {address}"
    );
    assert!(ended.error.contains(&said), "{said}: {ended:?}");
    // The older one hangs: whoever means it must not have the other one upgraded.
    served.gateway.pause();
    let file = file.to_str().unwrap();
    let commands: [&[&str]; 4] = [
        &["reload", file],
        &["upgrade", file],
        &list,
        &["health", file],
    ];
    for words in commands {
        let ended = LOCKGATE.run(words).await;
        assert_eq!(ended.code, Some(1), "{words:?}: {ended:?}");
        let hangs = format!("process {first_process}, the older of two");
        assert!(ended.error.contains(&hangs), "{words:?}: {ended:?}");
        let other = format!("process {second_process}");
        assert!(ended.error.contains(&other), "{words:?}: {ended:?}");
        assert!(
            ended.error.contains(&address.to_string()),
            "{words:?}: {ended:?}"
        );
    }
    served.gateway.resume();
    // The older one has gone.
    served.gateway.terminate();
    served.gateway.ended().await;
    let ended = LOCKGATE.run(&list).await;
    assert!(!ended.error.contains("two gateways"), "{ended:?}");
    second.terminate();
    second.ended().await;
}
