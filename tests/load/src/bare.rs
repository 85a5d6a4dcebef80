//! The bare server, the reference of the gateway's figures: tokio-tungstenite and nothing else, as fast as possible.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::{Sink, Stream};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::{CipherSuite, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};
use tokio_util::task::TaskTracker;

use crate::frame;

/// tungstenite zeroes its read buffer before each read: a larger one costs more.
const READ_BUFFER: usize = 8 << 10;

/// Replies are collected up to this size, or until nothing more is to be read.
const WRITE_BUFFER: usize = 128 << 10;

/// The sockets of the members of a group.
type Group = Arc<Mutex<Vec<std::net::TcpStream>>>;

pub(crate) fn main() -> Result<()> {
    rlimit::increase_nofile_limit(u64::MAX).context("open files")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve())
}

async fn serve() -> Result<()> {
    let tls = TlsAcceptor::from(Arc::new(tls()?));
    let plain = TcpListener::bind("127.0.0.1:0").await?;
    let secure = TcpListener::bind("127.0.0.1:0").await?;
    let http = TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("bare: listening on http://{}", http.local_addr()?);
    eprintln!("bare: listening on ws://{}", plain.local_addr()?);
    eprintln!("bare: listening on wss://{}", secure.local_addr()?);
    let (tasks, group) = (TaskTracker::new(), Group::default());
    tasks.spawn({
        let tasks = tasks.clone();
        async move {
            while let Ok((socket, _)) = plain.accept().await {
                tasks.spawn(greet_plain(socket, Arc::clone(&group), tasks.clone()));
            }
        }
    });
    tasks.spawn({
        let tasks = tasks.clone();
        async move {
            while let Ok((socket, _)) = http.accept().await {
                tasks.spawn(answer(socket));
            }
        }
    });
    while let Ok((socket, _)) = secure.accept().await {
        tasks.spawn(greet_secure(socket, tls.clone(), tasks.clone()));
    }
    Ok(())
}

/// The same TLS as the gateway's: a self-signed P-256 certificate, the cheapest cipher suite, tickets, HTTP/1.1 by ALPN.
fn tls() -> Result<ServerConfig> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    let key =
        PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let mut provider = aws_lc_rs::default_provider();
    let cheapest = CipherSuite::TLS13_AES_128_GCM_SHA256;
    let suites = &mut provider.cipher_suites;
    suites.sort_by_key(|suite| suite.suite() != cheapest);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = true;
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

/// Handshakes have tasks of their own, so that their memory is not kept for the life of the connection.
async fn greet_plain(socket: TcpStream, group: Group, tasks: TaskTracker) {
    let _ = socket.set_nodelay(true);
    if let Ok(socket) = accept_async_with_config(socket, Some(config())).await {
        tasks.spawn(echo(socket, group, twin));
    }
}

async fn greet_secure(socket: TcpStream, tls: TlsAcceptor, tasks: TaskTracker) {
    let _ = socket.set_nodelay(true);
    if let Ok(socket) = tls.accept(socket).await
        && let Ok(socket) = accept_async_with_config(socket, Some(config())).await
    {
        tasks.spawn(echo(socket, Group::default(), |_| None));
    }
}

/// A second handle of a socket, to write to it outside its task.
fn twin(socket: &TcpStream) -> Option<std::net::TcpStream> {
    Some(socket.as_fd().try_clone_to_owned().ok()?.into())
}

/// Reads the body of each request, and answers with nothing in it.
async fn answer(socket: TcpStream) {
    let _ = socket.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| async {
        request.into_body().collect().await?;
        Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
    let _ = connection.await;
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
}

/// Echoes all messages that are ready, and flushes once.
async fn echo<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
    group: Group,
    twin: impl Fn(&S) -> Option<std::net::TcpStream>,
) {
    std::future::poll_fn(|context| {
        loop {
            match Pin::new(&mut socket).poll_next(context) {
                Poll::Ready(Some(Ok(message @ (Message::Text(_) | Message::Binary(_))))) => {
                    if is(&message, "join") {
                        lock(&group).extend(twin(socket.get_ref()));
                    }
                    if is(&message, "publish") {
                        publish(&group, &message.into_data());
                    } else if Pin::new(&mut socket).start_send(message).is_err() {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => {
                    return match Pin::new(&mut socket).poll_flush(context) {
                        Poll::Ready(Err(_)) => Poll::Ready(()),
                        Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    })
    .await;
}

/// Whether a message has this action.
fn is(message: &Message, action: &str) -> bool {
    let text = message.to_text().unwrap_or_default();
    let text = text.strip_prefix(r#"{"action":""#).unwrap_or_default();
    text.starts_with(action)
}

/// Writes one frame with one system call to each socket.
fn publish(group: &Group, payload: &[u8]) {
    let mut bytes = Vec::new();
    frame::unmasked(payload, &mut bytes);
    for mut socket in lock(group).iter() {
        // A client of the bench has read the message before.
        let _ = socket.write_all(&bytes);
    }
}

fn lock(group: &Group) -> std::sync::MutexGuard<'_, Vec<std::net::TcpStream>> {
    group.lock().unwrap_or_else(PoisonError::into_inner)
}
