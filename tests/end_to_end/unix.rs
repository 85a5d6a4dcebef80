//! Listeners on Unix sockets.

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use lockgate_tests::{Gateway, PATIENCE, Request, within, write_configuration};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    LOCKGATE, probe_configuration,
    upgrade::{LOCAL, successor, upgrade},
};

fn configure(folder: &TempDir, listener: &str, limits: &str) -> PathBuf {
    let text = format!(
        "[log]\nformat = \"json\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n[[listeners]]\n{listener}\n\
         [management]\naddress = \"127.0.0.1:0\"\n[limits]\ndrain_s = 0\n{limits}\n{}",
        probe_configuration("", "")
    );
    write_configuration(folder.path(), &text)
}

async fn serve(folder: TempDir, listener: &str, limits: &str) -> (Gateway, PathBuf) {
    let file = configure(&folder, listener, limits);
    let socket = folder.path().join("clients.sock");
    let command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    (Gateway::start(command, folder, PATIENCE).await, socket)
}

fn by(socket: &Path) -> Request {
    Request::new("127.0.0.1:1".parse().unwrap(), "/s").by_socket(socket)
}

fn mode(socket: &Path) -> u32 {
    fs::symlink_metadata(socket).unwrap().permissions().mode() & 0o777
}

const SOCKET: &str = "address = \"unix:clients.sock\"";

#[tokio::test]
async fn clients_of_a_unix_socket_are_served_and_not_limited_as_one() {
    let (mut gateway, socket) =
        serve(TempDir::new().unwrap(), SOCKET, "connections_per_ip = 1").await;
    assert_eq!(mode(&socket), 0o660);
    let mut first = by(&socket).open().await;
    let mut second = by(&socket).open().await;
    first.id().await;
    second.id().await;
    let info = first.step(json!({"do": "info"})).await;
    assert_eq!(info["source_ip"], "127.0.0.1");

    // The mode of the socket changes under open connections.
    let file = gateway.folder().join("gateway.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replace(SOCKET, &format!("{SOCKET}\nmode = \"0600\"")),
    )
    .unwrap();
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(mode(&socket), 0o600);
    first.id().await;
    by(&socket).open().await.id().await;

    // The socket's file goes with the listener.
    gateway.terminate();
    assert_eq!(gateway.ended().await, Some(0));
    assert!(!socket.exists());
}

#[tokio::test]
async fn unix_socket_is_handed_over() {
    let (mut gateway, socket) = serve(TempDir::new().unwrap(), SOCKET, "").await;
    let serving = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    by(&socket).open().await.id().await;
    serving.terminate();
    serving.ended().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn unix_socket_whose_file_is_gone_or_anothers_is_not_handed_over() {
    let (mut gateway, socket) = serve(TempDir::new().unwrap(), SOCKET, "").await;
    fs::remove_file(&socket).unwrap();
    let theirs = UnixListener::bind(&socket).unwrap();
    let (status, said) = gateway.ask("POST", "/upgrade", LOCAL).await;
    assert_eq!(status, 409, "{said}");
    assert!(said.contains("cannot listen on unix:"), "{said}");
    drop(theirs);
    fs::remove_file(&socket).unwrap();
    let serving = upgrade(&gateway).await;
    assert_eq!(gateway.ended().await, Some(0));
    by(&socket).open().await.id().await;
    serving.terminate();
    serving.ended().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn stale_unix_socket_is_replaced_and_no_other_file() {
    let folder = TempDir::new().unwrap();
    drop(UnixListener::bind(folder.path().join("clients.sock")).unwrap());
    let (mut gateway, socket) = serve(folder, SOCKET, "").await;
    by(&socket).open().await.id().await;

    // Another process listens there, or the path is a file.
    let other = TempDir::new().unwrap();
    let file = configure(
        &other,
        &format!("address = \"unix:{}\"", socket.display()),
        "",
    );
    let refused = LOCKGATE.run(&["run", file.to_str().unwrap()]).await;
    assert_eq!(refused.code, Some(1));
    for said in [
        "cannot listen on unix:",
        "\"line\":6,\"key\":\"listeners[1].address\"",
    ] {
        assert!(refused.error.contains(said), "{}", refused.error);
    }
    by(&socket).open().await.id().await;
    let notes = other.path().join("notes");
    fs::write(&notes, "mine").unwrap();
    let file = configure(
        &other,
        &format!("address = \"unix:{}\"", notes.display()),
        "",
    );
    let refused = LOCKGATE.run(&["run", file.to_str().unwrap()]).await;
    assert!(
        refused.error.contains("a file that is no socket"),
        "{}",
        refused.error
    );
    assert_eq!(fs::read_to_string(&notes).unwrap(), "mine");

    // A socket that another process has put there by the end stays.
    fs::remove_file(&socket).unwrap();
    let theirs = UnixListener::bind(&socket).unwrap();
    gateway.terminate();
    assert_eq!(within("the end", gateway.ended()).await, Some(0));
    assert!(
        fs::symlink_metadata(&socket)
            .unwrap()
            .file_type()
            .is_socket()
    );
    drop(theirs);
}

#[tokio::test]
async fn unix_socket_whose_file_is_gone_is_made_again_by_a_reload() {
    let (gateway, socket) = serve(TempDir::new().unwrap(), SOCKET, "").await;
    let mut before = by(&socket).open().await;
    fs::remove_file(&socket).unwrap();
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{said}");
    by(&socket).open().await.id().await;
    before.id().await;
    let inode = |path| std::os::unix::fs::MetadataExt::ino(&fs::symlink_metadata(path).unwrap());
    let made = inode(&socket);
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(inode(&socket), made, "it is kept, since it is there");
}

#[tokio::test]
async fn unnamed_clients_of_a_proxy_on_a_unix_socket_are_not_limited_as_one() {
    let listener = format!("{SOCKET}\ntrusted_proxies = [\"127.0.0.1\"]");
    let (_gateway, socket) =
        serve(TempDir::new().unwrap(), &listener, "connections_per_ip = 1").await;
    let mut first = by(&socket).open().await;
    let mut second = by(&socket).open().await;
    first.id().await;
    second.id().await;
    // Clients that the proxy names are limited.
    let named = by(&socket).header("X-Forwarded-For", "192.0.2.1");
    let mut named_first = named.clone().open().await;
    named_first.id().await;
    assert_eq!(named.attempt().await.err().unwrap().status, 429);
}

#[tokio::test]
async fn unix_socket_of_a_dropped_listener_is_removed_unless_anothers() {
    for is_anothers in [false, true] {
        let (mut gateway, socket) = serve(TempDir::new().unwrap(), SOCKET, "").await;
        let file = gateway.folder().join("gateway.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(
            &file,
            text.replace(&format!("[[listeners]]\n{SOCKET}\n"), ""),
        )
        .unwrap();
        let theirs = is_anothers.then(|| {
            fs::remove_file(&socket).unwrap();
            UnixListener::bind(&socket).unwrap()
        });
        let serving = upgrade(&gateway).await;
        assert_eq!(gateway.ended().await, Some(0));
        assert_eq!(socket.exists(), is_anothers);
        drop((serving, theirs));
    }
}

#[tokio::test]
async fn management_and_health_unix_sockets_are_found_handed_over_and_removed() {
    let folder = TempDir::new().unwrap();
    let [management, health] =
        ["management", "health"].map(|name| folder.path().join(format!("{name}.sock")));
    let text = format!(
        "[log]\nformat = \"json\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\n\
         [management]\naddress = \"unix:management.sock\"\n\
         [health]\naddress = \"unix:health.sock\"\nmode = \"0666\"\n[limits]\ndrain_s = 0\n{}",
        probe_configuration("", "")
    );
    let file = write_configuration(folder.path(), &text);
    let command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    let mut gateway = Gateway::start(command, folder, PATIENCE).await;
    assert_eq!((mode(&management), mode(&health)), (0o600, 0o666));
    let file = file.to_str().unwrap();
    let at_management = format!("unix:{}", management.display());
    let at_health = format!("unix:{}", health.display());
    let commands = async || {
        for words in [
            &["reload", file][..],
            &["reload", "--management", &at_management],
            &["plugins", "list", "--config", file],
            &["health", file],
            &["health", &at_health],
            &["health", &at_management],
        ] {
            let ended = LOCKGATE.run(words).await;
            assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
        }
    };
    commands().await;

    // The mode and the path of the management socket change with a reload.
    let changed = "address = \"unix:management.sock\"\nmode = \"0660\"";
    fs::write(
        file,
        text_of(file).replace("address = \"unix:management.sock\"", changed),
    )
    .unwrap();
    commands().await;
    assert_eq!(mode(&management), 0o660);
    let elsewhere = management.with_file_name("elsewhere.sock");
    let before = text_of(file);
    fs::write(
        file,
        before.replace("unix:management.sock", "unix:elsewhere.sock"),
    )
    .unwrap();
    let ended = LOCKGATE.run(&["reload", file]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(mode(&elsewhere), 0o660);
    within("the old socket to go", async {
        while management.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    fs::write(file, before).unwrap();
    let ended = LOCKGATE.run(&["reload", file]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let ended = LOCKGATE.run(&["upgrade", file]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let serving = successor(&ended.output);
    assert_eq!(gateway.ended().await, Some(0));
    commands().await;
    serving.terminate();
    serving.ended().await;
    assert!(!management.exists() && !health.exists() && !elsewhere.exists());
    let ended = LOCKGATE.run(&["health", &at_health]).await;
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.error.contains("is the gateway running?"),
        "{}",
        ended.error
    );
}

fn text_of(file: &str) -> String {
    fs::read_to_string(file).unwrap()
}

#[tokio::test]
async fn path_of_another_listener_is_refused_with_the_remedy() {
    let (gateway, socket) = serve(TempDir::new().unwrap(), SOCKET, "").await;
    let file = gateway.folder().join("gateway.toml");
    let text = text_of(file.to_str().unwrap());
    let swapped = text
        .replace(&format!("[[listeners]]\n{SOCKET}\n"), "")
        .replace("[limits]", &format!("[health]\n{SOCKET}\n[limits]"));
    fs::write(&file, swapped).unwrap();
    let (status, said) = gateway.post("/reload", "{}").await;
    assert_eq!(status, 422, "{said}");
    assert!(said.contains("with one reload"), "{said}");
    assert!(!said.contains("stop the process that listens"), "{said}");
    by(&socket).open().await.id().await;
}

/// Of what was bound for it and of what it was given: the process that goes on has its files still.
#[tokio::test]
async fn sockets_of_a_gateway_outlive_an_upgrade_that_fails() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(format!("{name}.sock"));
    let [clients, management, health] = ["clients", "management", "health"].map(path);
    let text = format!(
        "health = \"unix:health.sock\"\n[log]\nformat = \"json\"\n[[listeners]]\n{SOCKET}\n\
         [[listeners]]\naddress = \"127.0.0.1:0\"\n[management]\naddress = \"unix:management.sock\"\n\
         [limits]\ndrain_s = 0\n{}",
        probe_configuration("", "")
    );
    let file = write_configuration(folder.path(), &text);
    let good = fs::read_to_string(&file).unwrap();
    fs::write(folder.path().join("none.wasm"), "none").unwrap();
    let command = LOCKGATE.command(&["run", file.to_str().unwrap()]);
    let gateway = Gateway::start(command, folder, PATIENCE).await;
    let name = file.to_str().unwrap();
    // Before and after the sockets are taken over.
    for (bad, said) in [
        (
            "[plugins.none]\ncomponent = \"none.wasm\"\n",
            "plugins.none.component",
        ),
        (
            "[[listeners]]\naddress = \"unix:nowhere/new.sock\"\n",
            "cannot listen on unix:",
        ),
    ] {
        fs::write(&file, format!("{good}\n{bad}")).unwrap();
        let ended = LOCKGATE.run(&["upgrade", name]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.error.contains(said), "{}", ended.error);
        assert!(
            clients.exists() && management.exists() && health.exists(),
            "{said}"
        );
        by(&clients).open().await.id().await;
        fs::write(&file, &good).unwrap();
        for command in ["health", "reload"] {
            let ended = LOCKGATE.run(&[command, name]).await;
            assert_eq!(ended.code, Some(0), "{ended:?}");
        }
    }

    // A file that somebody has removed is made again.
    fs::remove_file(&management).unwrap();
    let ended = LOCKGATE.run(&["reload", name]).await;
    assert!(ended.error.contains("send the gateway SIGHUP"), "{ended:?}");
    gateway.hang_up();
    within("the socket to be made again", async {
        while !management.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The queue of a process that hangs is full: connecting to it to see whether it lives would wait for ever.
#[tokio::test]
async fn path_of_a_process_that_hangs_is_refused_at_once() {
    let (gateway, socket) = serve(TempDir::new().unwrap(), SOCKET, "").await;
    let other = TempDir::new().unwrap();
    let path = other.path().join("hung.sock");
    let hung = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&hung, 1).unwrap();
    // One more than the queue's length is taken.
    let _queue = [(); 2].map(|()| UnixStream::connect(&path).unwrap());
    let file = gateway.folder().join("gateway.toml");
    let text = text_of(file.to_str().unwrap());
    let listener = format!("[[listeners]]\naddress = \"unix:{}\"\n", path.display());
    fs::write(&file, format!("{listener}{text}")).unwrap();
    let (status, said) = within("a reload", gateway.post("/reload", "{}")).await;
    assert_eq!(status, 422, "{said}");
    assert!(said.contains("hung.sock"), "{said}");
    by(&socket).open().await.id().await;
}
