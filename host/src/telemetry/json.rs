//! Log lines in JSON: an object with the event's fields, numbers as numbers, and no path of the machine that built the
//! gateway.

use std::error::Error;
use std::fmt;

use serde::ser::{SerializeMap, Serializer as _};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let line = line(&time, event).map_err(|_| fmt::Error)?;
        writer.write_str(&line)
    }
}

fn line(time: &str, event: &Event<'_>) -> serde_json::Result<String> {
    let mut line = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut line);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("timestamp", time)?;
    map.serialize_entry("level", event.metadata().level().as_str())?;
    let mut fields = Fields {
        map: &mut map,
        target: None,
        failed: Ok(()),
    };
    event.record(&mut fields);
    let Fields { target, failed, .. } = fields;
    failed?;
    let target = target
        .as_deref()
        .unwrap_or_else(|| event.metadata().target());
    map.serialize_entry("target", target)?;
    map.end()?;
    line.push(b'\n');
    Ok(String::from_utf8_lossy(&line).into_owned())
}

struct Fields<'a, M: SerializeMap> {
    map: &'a mut M,
    /// The target of an event of the crate `log`, which has its own.
    target: Option<String>,
    failed: Result<(), M::Error>,
}

impl<M: SerializeMap> Fields<'_, M> {
    fn entry(&mut self, field: &Field, value: &(impl serde::Serialize + ?Sized)) {
        if self.failed.is_ok() && !field.name().starts_with("log.") {
            self.failed = self.map.serialize_entry(field.name(), value);
        }
    }
}

impl<M: SerializeMap> Visit for Fields<'_, M> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.entry(field, &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.entry(field, &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.entry(field, &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.entry(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            self.target = Some(value.to_owned());
        }
        self.entry(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.entry(field, &value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.entry(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt as _};

    use super::*;

    static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

    struct LineRecorder;

    impl<S: Subscriber> Layer<S> for LineRecorder {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let line = line("now", event).expect("a line");
            LINES.lock().expect("no panic").push(line);
        }
    }

    #[test]
    fn line_has_numbers_and_words_and_no_path_of_the_build_machine() {
        let subscriber = tracing_subscriber::registry().with(LineRecorder);
        tracing::subscriber::with_default(subscriber, || {
            let stage = "a/s";
            tracing::warn!(target: "here", load_ms = 5, share = 0.5, cut = true, %stage, "it \"is\"\nso");
            // An event as the crate `log` makes it.
            tracing::info!(target: "log", { log.target = "notify", log.file = "/build/x.rs", log.line = 7 }, "x");
        });
        let expected = [
            r#"{"timestamp":"now","level":"WARN","message":"it \"is\"\nso","load_ms":5,"share":0.5,"cut":true,"stage":"a/s","target":"here"}"#,
            r#"{"timestamp":"now","level":"INFO","message":"x","target":"notify"}"#,
        ];
        let lines = LINES.lock().expect("no panic");
        assert_eq!(
            lines.concat(),
            expected.map(|line| format!("{line}\n")).concat()
        );
    }
}
