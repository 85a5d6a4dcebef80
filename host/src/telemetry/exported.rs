//! The lines of the log that go to a collector too (`otlp`).

use std::error::Error;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::otlp::{self, Attribute, LogRecord};

/// Queues each line for the collector, with the fields of the log in JSON.
pub(super) struct Exported;

impl<S: Subscriber> Layer<S> for Exported {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !otlp::takes_logs() {
            return;
        }
        let metadata = event.metadata();
        let mut fields = Fields {
            record: LogRecord::new(*metadata.level()),
            target: None,
        };
        event.record(&mut fields);
        let Fields { mut record, target } = fields;
        let target = target.as_deref().unwrap_or_else(|| metadata.target());
        record.field("target", target.into());
        record.queue();
    }
}

struct Fields {
    record: LogRecord,
    /// The target of an event of the crate `log`, which has its own.
    target: Option<String>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Attribute<'_>) {
        match (field.name(), value) {
            ("message", Attribute::Text(text)) => self.record.body(text),
            ("log.target", Attribute::Text(text)) => self.target = Some(text.to_owned()),
            // The places of the crate `log` are paths of the machine that built the gateway.
            (name, _) if name.starts_with("log.") => {}
            (name, value) => self.record.field(name, value),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Attribute::Decimal(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Attribute::Integer(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(
            field,
            Attribute::Integer(value.try_into().unwrap_or(i64::MAX)),
        );
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Attribute::Flag(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.add(field, value.to_string().as_str().into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").as_str().into());
    }
}
