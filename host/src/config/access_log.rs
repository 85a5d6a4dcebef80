//! The access log: where its lines go, what is in them, and which messages have one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::file;
use super::model::Api;
use super::names::nearest;
use super::report::Report;

/// The socket of the machine's syslog.
const SYSLOG: &str = "/dev/log";

/// Begins every variable of a format.
const CONTEXT: &str = "$context.";

/// The most bytes of a format, as in API Gateway.
const MAX_FORMAT: usize = 3_072;

/// The access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessLog {
    pub(crate) to: AccessLogTarget,
    pub(crate) format: AccessLogFormat,
    pub(crate) messages: LoggedMessages,
}

/// The place of the access log's lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AccessLogTarget {
    /// Lines of the log, limited for each client.
    Log,
    Nowhere,
    Stdout,
    File(LogFile),
    /// The path of a datagram socket.
    Syslog(PathBuf),
}

/// A file of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFile {
    pub(crate) path: PathBuf,
    /// The size in bytes at which it is renamed; `None` is never.
    pub(crate) rotate_at: Option<u64>,
    /// Renamed files that are kept.
    pub(crate) keep: u32,
}

/// The format of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AccessLogFormat {
    Json,
    Template(Vec<TemplatePart>),
}

/// A part of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TemplatePart {
    Text(String),
    Variable(Variable),
}

/// The messages that have a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LoggedMessages {
    /// One in so many; 0 is none.
    pub(crate) one_in: u32,
    /// The route keys of which every message has one.
    pub(crate) routes: BTreeSet<String>,
}

impl LoggedMessages {
    /// One message of a route in so many has a line; 0 is none.
    pub(crate) fn one_in(&self, route: &str) -> u32 {
        if self.routes.contains(route) {
            1
        } else {
            self.one_in
        }
    }
}

/// Declares the variables of a format, each with its names: API Gateway's first.
macro_rules! variables {
    ($($variable:ident: $($name:literal)|+;)+) => {
        /// A variable of a format.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Variable { $($variable,)+ }

        const VARIABLES: &[(&str, Variable)] = &[$($(($name, Variable::$variable),)+)+];
    };
}

variables! {
    Timestamp: "timestamp";
    RequestTime: "requestTime";
    RequestTimeEpoch: "requestTimeEpoch";
    RequestId: "requestId" | "extendedRequestId" | "integration.requestId" | "request_id";
    EventType: "eventType";
    Event: "event";
    Api: "apiId";
    StageName: "stage";
    Route: "routeKey" | "route";
    Connection: "connectionId" | "connection";
    ConnectedAt: "connectedAt";
    Client: "identity.sourceIp" | "client";
    By: "identity.caller" | "by";
    Host: "domainName" | "host";
    Method: "httpMethod" | "method";
    Path: "path";
    Origin: "origin";
    UserAgent: "identity.userAgent" | "user_agent";
    Principal: "authorizer.principalId" | "identity.user" | "principal";
    Trace: "trace_id";
    Span: "span_id";
    Tls: "tls";
    Http: "http";
    Protocol: "protocol";
    Status: "status" | "integration.status" | "integration.integrationStatus";
    Latency: "integrationLatency" | "integration.latency";
    TookMs: "took_ms";
    Error: "error.message" | "integration.error" | "integrationErrorMessage" | "refused" | "error";
    ErrorString: "error.messageString";
    Code: "code";
    Reason: "reason";
    ClosedBy: "closed_by";
    Cause: "cause";
    OpenS: "open_s";
    MessagesIn: "messages_in";
    MessagesOut: "messages_out";
    BytesIn: "bytes_in";
    BytesOut: "bytes_out";
    OutboxPeak: "outbox_peak_bytes";
    // Of features that Lockgate does not have: never a value.
    Absent: "messageId" | "error.responseType" | "error.validationErrorString"
        | "authenticate.error" | "authenticate.latency" | "authenticate.status"
        | "authorize.error" | "authorize.latency" | "authorize.status"
        | "authorizer.error" | "authorizer.integrationLatency" | "authorizer.integrationStatus"
        | "authorizer.latency" | "authorizer.requestId" | "authorizer.status"
        | "identity.accountId" | "identity.apiKey" | "identity.apiKeyId"
        | "identity.cognitoAuthenticationProvider" | "identity.cognitoAuthenticationType"
        | "identity.cognitoIdentityId" | "identity.cognitoIdentityPoolId"
        | "identity.principalOrgId" | "identity.userArn"
        | "waf.error" | "waf.latency" | "waf.status";
}

/// Checks the access log of the file.
pub(super) fn access_log(
    written: file::AccessLog,
    apis: &[Api],
    report: &mut Report<'_>,
) -> AccessLog {
    let to = target(&written, report);
    let is_file = matches!(to, AccessLogTarget::File(_));
    for key in ["access_log.rotate_mib", "access_log.keep"] {
        if report.is_written(key) && !is_file && report.is_clean("access_log.to") {
            report.problem(
                key,
                "the access log is no file, and only a file is renamed",
                "remove it, or write to = \"file:PATH\"",
            );
        }
    }
    if report.is_written("access_log.format")
        && to == AccessLogTarget::Log
        && report.is_clean("access_log.to")
    {
        report.problem(
            "access_log.format",
            "the access log goes to the log, which has its own format (log.format)",
            "remove it, or write to = \"stdout\", \"file:PATH\" or \"syslog\"",
        );
    }
    let format = format(&written.format).unwrap_or_else(|(message, remedy)| {
        report.problem("access_log.format", message, remedy);
        AccessLogFormat::Json
    });
    let known: Vec<_> = apis
        .iter()
        .flat_map(|api| api.routes.iter().map(|route| route.key.as_str()))
        .collect();
    for (index, route) in written.messages.routes.iter().enumerate() {
        if !known.contains(&route.as_str()) && report.is_clean("apis") {
            let remedy = match nearest(route, &known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => "name a route key of an API".to_owned(),
            };
            report.problem(
                &format!("access_log.messages.routes[{index}]"),
                format!("no API has a route {route:?}"),
                remedy,
            );
        }
    }
    AccessLog {
        to,
        format,
        messages: LoggedMessages {
            one_in: written.messages.one_in,
            routes: written.messages.routes.into_iter().collect(),
        },
    }
}

fn target(written: &file::AccessLog, report: &mut Report<'_>) -> AccessLogTarget {
    const KEY: &str = "access_log.to";
    let to = written.to.as_str();
    let mut path = |path: &str| {
        if path.is_empty() || path.contains('\0') {
            report.problem(
                KEY,
                format!("{to:?} names no file"),
                "write a path behind the colon",
            );
        }
        report.path(KEY, path)
    };
    match to.split_once(':') {
        None => match to {
            "log" => return AccessLogTarget::Log,
            "none" => return AccessLogTarget::Nowhere,
            "stdout" => return AccessLogTarget::Stdout,
            "syslog" => return AccessLogTarget::Syslog(Path::new(SYSLOG).to_owned()),
            _ => {}
        },
        Some(("file", file)) => {
            return AccessLogTarget::File(LogFile {
                path: path(file),
                rotate_at: (written.rotate_mib > 0).then(|| u64::from(written.rotate_mib) << 20),
                keep: written.keep,
            });
        }
        Some(("syslog", socket)) => return AccessLogTarget::Syslog(path(socket)),
        Some(_) => {}
    }
    let remedy = match to.contains('/') {
        true => format!("write \"file:{to}\""),
        false => "write \"log\", \"none\", \"stdout\", \"syslog\" or \"file:PATH\"".to_owned(),
    };
    report.problem(
        KEY,
        format!("{to:?} is no place for the access log"),
        remedy,
    );
    AccessLogTarget::Nowhere
}

/// Parses a format, or gives the fault and its remedy.
fn format(text: &str) -> Result<AccessLogFormat, (String, String)> {
    if text == "json" {
        return Ok(AccessLogFormat::Json);
    }
    if text.len() > MAX_FORMAT || text.contains(['\n', '\r']) {
        return Err((
            format!("it is longer than {MAX_FORMAT} bytes, or more than one line"),
            "write a shorter one, on one line".to_owned(),
        ));
    }
    let mut pieces = text.split(CONTEXT);
    let mut parts = Vec::new();
    parts.extend(
        pieces
            .next()
            .map(|text| TemplatePart::Text(text.to_owned())),
    );
    for piece in pieces {
        let end = piece.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_'));
        let (name, rest) = piece.split_at(end.unwrap_or(piece.len()));
        // A sentence may end behind a variable.
        let trimmed = name.trim_end_matches('.');
        let Some(variable) = find(trimmed) else {
            let names: Vec<_> = VARIABLES.iter().map(|(name, _)| *name).collect();
            return Err((
                format!("there is no variable {CONTEXT}{trimmed}"),
                match same_letters(trimmed, &names).or_else(|| nearest(trimmed, &names)) {
                    Some(near) => format!("did you mean {CONTEXT}{near}?"),
                    None => "write one of docs/operating.md, as in $context.requestId".to_owned(),
                },
            ));
        };
        parts.push(TemplatePart::Variable(variable));
        parts.push(TemplatePart::Text(format!(
            "{}{rest}",
            name.split_at(trimmed.len()).1
        )));
    }
    parts.retain(|part| !matches!(part, TemplatePart::Text(text) if text.is_empty()));
    if !parts
        .iter()
        .any(|part| matches!(part, TemplatePart::Variable(_)))
    {
        return Err((
            "it has no variable, so every line would be the same".to_owned(),
            "write \"json\", or a text with variables, as in \"$context.requestId $context.status\"".to_owned(),
        ));
    }
    Ok(AccessLogFormat::Template(parts))
}

fn same_letters<'n>(written: &str, names: &[&'n str]) -> Option<&'n str> {
    let mut names = names.iter().copied();
    names.find(|name| name.eq_ignore_ascii_case(written))
}

fn find(name: &str) -> Option<Variable> {
    let found = VARIABLES.iter().find(|(known, _)| *known == name);
    found.map(|(_, variable)| *variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> TemplatePart {
        TemplatePart::Text(text.to_owned())
    }

    #[test]
    fn format_of_a_deployment_tool_is_read_into_texts_and_variables() {
        let parsed =
            format("$context.identity.sourceIp [$context.requestTime] \"$context.eventType\".");
        assert_eq!(
            parsed,
            Ok(AccessLogFormat::Template(vec![
                TemplatePart::Variable(Variable::Client),
                text(" ["),
                TemplatePart::Variable(Variable::RequestTime),
                text("] \""),
                TemplatePart::Variable(Variable::EventType),
                text("\"."),
            ]))
        );
        assert_eq!(
            format("$context.status."),
            Ok(AccessLogFormat::Template(vec![
                TemplatePart::Variable(Variable::Status),
                text("."),
            ]))
        );
    }

    #[test]
    fn unknown_variable_is_refused_with_the_nearest() {
        let (message, remedy) = format("$context.requestID").unwrap_err();
        assert_eq!(message, "there is no variable $context.requestID");
        assert_eq!(remedy, "did you mean $context.requestId?");
        assert!(format("constant").is_err());
        assert!(format("$context.status\n").is_err());
        let long = |bytes: usize| format(&format!("$context.status {}", "x".repeat(bytes - 16)));
        assert!(long(MAX_FORMAT).is_ok());
        assert!(long(MAX_FORMAT + 1).is_err());
    }
}
