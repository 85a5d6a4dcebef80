//! The three kinds of failure: the gateway did not do a call ([`Error`]), a handler could not do its work
//! ([`Failure`]), a client is not let in ([`Refusal`]).

use std::fmt;

/// The result of [`Handler::message`](crate::Handler::message) and of its helpers.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// The reason why the gateway did not do a call. Each case says what a handler can do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No such connection, or not any more. Forget the id.
    Gone,
    /// There is no room now: the connection reads too slowly or is in as many groups as it may, or this
    /// invocation has used up its sends. Drop the message, or try again in a later invocation. The gateway's
    /// log names the limit and its value.
    Busy,
    /// The message or the value is over its limit. Send less.
    TooLarge,
    /// The operator's configuration does not allow it.
    Denied,
    /// Another node of the cluster did not answer. It is not known whether the call was done there; it is not done any
    /// more once two seconds have passed since the call. A gateway that is alone never says this.
    Unreachable,
    /// An argument that can never be right, and the reason. A mistake in the handler.
    Invalid(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the connection is gone"),
            Self::Busy => f.write_str(
                "there is no room now: the connection reads too slowly, or a limit is reached that the gateway's log names",
            ),
            Self::TooLarge => f.write_str("the message or value is over a limit that the gateway's log names"),
            Self::Denied => f.write_str("the gateway's configuration does not allow it"),
            Self::Unreachable => f.write_str("another node of the cluster did not answer"),
            Self::Invalid(why) => write!(f, "invalid argument: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// The reason why a handler could not do its work.
///
/// It goes to the gateway's log and never to the client, which gets `Internal server error`. Answer a client's
/// mistake with a message; fail for a fault on this side.
///
/// The `?` operator turns every error, and every other value that can be displayed, into a failure:
///
/// ```
/// # use lockgate_plugin::Result;
/// fn port(text: &str) -> Result<u16> {
///     let (_, port) = text.split_once(':').ok_or("no colon")?;
///     Ok(port.parse()?)
/// }
///
/// assert_eq!(port("localhost").unwrap_err().as_str(), "no colon");
/// assert_eq!(port("localhost:x").unwrap_err().as_str(), "invalid digit found in string");
/// ```
///
/// For that reason it implements neither `Display` nor `Error`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    /// A failure with this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// The reason, as it is written to the log.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<D: fmt::Display> From<D> for Failure {
    fn from(reason: D) -> Self {
        Self(reason.to_string())
    }
}

impl From<Failure> for String {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

/// A refusal of a client.
///
/// ```
/// # use lockgate_plugin::Refusal;
/// Refusal::new(403).message("members only");
/// ```
///
/// The `?` operator turns an error into a refusal with status 500 that tells the client nothing; the
/// error goes to the gateway's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status of the response, 300 to 599.
    pub status: u16,
    /// The text for the client in the body, as `{"message": …}`. `None` sends the status's own phrase.
    pub message: Option<String>,
    /// The text for the gateway's log. The client never gets it.
    pub cause: Option<String>,
}

impl Refusal {
    /// A refusal with this HTTP status, 300 to 599.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            message: None,
            cause: None,
        }
    }

    /// Sets the text for the client in the body.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Sets the text for the gateway's log.
    #[must_use]
    pub fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// The part that the client gets. The rest goes to the log.
    pub(crate) fn told(self) -> (u16, Option<String>) {
        if let Some(cause) = self.cause {
            eprintln!("refused with {}: {cause}", self.status);
            return (self.status, self.message);
        }
        // A gateway with `compat = "aws"` takes a refusal with 500 and without a text for an error: this one is meant.
        let phrase = (self.status == 500).then(|| "Internal Server Error".to_owned());
        (self.status, self.message.or(phrase))
    }
}

impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::new(500).cause(error)
    }
}
