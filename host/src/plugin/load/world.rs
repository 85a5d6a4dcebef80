//! The worlds of `wit/`, spelt as types: a component is compared with it without being compiled, as wasmtime would
//! compare it when it calls.

use std::fmt::Write as _;

use wasmparser::component_types::{
    ComponentDefinedType, ComponentEntityType, ComponentFuncType, ComponentValType,
};
use wasmparser::types::{Types, TypesRef};

use crate::plugin::capability::on_track;

/// The interface of a plugin that handles routes.
pub(super) const HANDLER: &str = "lockgate:plugin/handler";

/// The interface of a plugin that decides who may connect.
pub(super) const AUTHORIZER: &str = "lockgate:plugin/authorizer";

/// The worlds, each by the interface that makes a component one of it. The first that fits names a component.
const WORLDS: [(&str, &str); 2] = [
    (HANDLER, "lockgate:plugin/handler-plugin@0.1.0"),
    (AUTHORIZER, "lockgate:plugin/authorizer-plugin@0.1.0"),
];

/// Bytes of a type that are shown: a type may be as long as a component, or contain itself many times over.
const MAX_TYPE: usize = 1 << 10;

/// An interface that the gateway calls, if a component exports it.
struct ExpectedInterface {
    name: &'static str,
    /// The name and the type of each function, as [`function_text`] writes types.
    functions: &'static [(&'static str, &'static str)],
}

const INTERFACES: [ExpectedInterface; 3] = [
    ExpectedInterface {
        name: HANDLER,
        functions: &[
            (
                "on-connect",
                "func(record { connection-id: string, route-key: string }, record { query: list<tuple<string, string>>, \
                 headers: list<tuple<string, string>>, subprotocols: list<string>, source-ip: string, domain-name: string, path: \
                 string, http-version: string, secure: bool, certificate-subject: option<string> }) -> result<record { \
                 subprotocol: option<string>, headers: list<tuple<string, string>> }, record { status: u16, message: \
                 option<string> }>",
            ),
            (
                "on-message",
                "func(record { connection-id: string, route-key: string }, variant { text(string), binary(list<u8>) }) -> \
                 result<option<variant { text(string), binary(list<u8>) }>, string>",
            ),
            (
                "on-disconnect",
                "func(record { connection-id: string, route-key: string }, record { code: u16, reason: string })",
            ),
        ],
    },
    ExpectedInterface {
        name: AUTHORIZER,
        functions: &[(
            "authorize",
            "func(string, record { query: list<tuple<string, string>>, headers: list<tuple<string, string>>, subprotocols: \
             list<string>, source-ip: string, domain-name: string, path: string, http-version: string, secure: bool, \
             certificate-subject: option<string> }) -> result<record { principal: option<string>, values: \
             list<tuple<string, variant { text(string), number(f64), flag(bool) }>>, scopes: list<string>, expires-at: \
             option<u64> }, record { status: u16, message: option<string> }>",
        )],
    },
    ExpectedInterface {
        name: "lockgate:plugin/self-test",
        functions: &[("run", "func() -> result<_, string>")],
    },
];

/// The world of a component with these exports.
pub(super) fn world(exports: &[&str]) -> Option<&'static str> {
    let fits = |interface: &str| {
        let mut exports = exports.iter();
        exports.any(|export| on_track(export) == Some(interface))
    };
    let fit = WORLDS.iter().find(|(interface, _)| fits(interface));
    fit.map(|(_, world)| *world)
}

/// Where a component with these exports differs from the worlds.
pub(super) fn misfits(types: &Types, exports: &[&str]) -> Vec<String> {
    let types = types.as_ref();
    let mut misfits = Vec::new();
    if world(exports).is_none() {
        misfits.push(format!(
            "it exports neither {HANDLER}@0.1.0 nor {AUTHORIZER}@0.1.0"
        ));
    }
    for interface in INTERFACES {
        let named = exports
            .iter()
            .filter(|export| on_track(export) == Some(interface.name));
        for export in named {
            for (function, expected) in interface.functions {
                match function_type(types, export, function) {
                    None => misfits.push(format!("its {export} has no function {function}")),
                    Some(found) if found == *expected => {}
                    Some(found) => misfits.push(format!(
                        "{function} of its {export} is {found}, and has to be {expected}"
                    )),
                }
            }
        }
    }
    misfits
}

/// The type of a function of an exported interface.
fn function_type(types: TypesRef<'_>, interface: &str, function: &str) -> Option<String> {
    let ComponentEntityType::Instance(instance) = types.component_item_for_export(interface)?.ty
    else {
        return None;
    };
    let ComponentEntityType::Func(function) = types.get(instance)?.exports.get(function)?.ty else {
        return None;
    };
    Some(function_text(types, types.get(function)?))
}

/// A function's type in WIT, without the names of its parameters and with each named type spelt out: the engine
/// compares types in the same way.
fn function_text(types: TypesRef<'_>, function: &ComponentFuncType) -> String {
    let mut text = String::from(if function.async_ {
        "async func("
    } else {
        "func("
    });
    let mut writer = TypeWriter {
        types,
        text: &mut text,
    };
    writer.list(function.params.iter().map(|(_, parameter)| parameter));
    writer.text.push(')');
    if let Some(result) = &function.result {
        writer.text.push_str(" -> ");
        writer.value(result);
    }
    if text.len() > MAX_TYPE {
        text.truncate(text.floor_char_boundary(MAX_TYPE));
        text.push('…');
    }
    text
}

struct TypeWriter<'a, 'text> {
    types: TypesRef<'a>,
    text: &'text mut String,
}

impl<'a> TypeWriter<'a, '_> {
    fn value(&mut self, value: &ComponentValType) {
        // Each step below writes something, so this bound ends the writing of any type.
        if self.text.len() > MAX_TYPE {
            return;
        }
        match value {
            ComponentValType::Primitive(primitive) => self.push(primitive),
            ComponentValType::Type(id) => match self.types.get(*id) {
                Some(defined) => self.defined(defined),
                None => self.push(&'?'),
            },
        }
    }

    fn defined(&mut self, defined: &'a ComponentDefinedType) {
        match defined {
            ComponentDefinedType::Primitive(primitive) => self.push(primitive),
            ComponentDefinedType::Record(record) => {
                let fields = record.fields.iter();
                let fields = fields.map(|(name, field)| (name.as_str(), Some(field)));
                self.fields_or_cases("record", fields, [": ", ""]);
            }
            ComponentDefinedType::Variant(variant) => {
                let cases = variant.cases.iter();
                let cases = cases.map(|(name, case)| (name.as_str(), case.ty.as_ref()));
                self.fields_or_cases("variant", cases, ["(", ")"]);
            }
            ComponentDefinedType::Flags(names) => {
                let names = names.iter().map(|name| (name.as_str(), None));
                self.fields_or_cases("flags", names, ["", ""]);
            }
            ComponentDefinedType::Enum(names) => {
                let names = names.iter().map(|name| (name.as_str(), None));
                self.fields_or_cases("enum", names, ["", ""]);
            }
            ComponentDefinedType::List { element, .. } => self.generic("list", [element]),
            ComponentDefinedType::Option { ty, .. } => self.generic("option", [ty]),
            ComponentDefinedType::Tuple(tuple) => self.generic("tuple", &tuple.types),
            ComponentDefinedType::Result { ok, err, .. } => {
                self.text.push_str("result<");
                self.or_none(ok.as_ref());
                self.text.push_str(", ");
                self.or_none(err.as_ref());
                self.text.push('>');
            }
            ComponentDefinedType::Own(_) => self.push(&"own<resource>"),
            ComponentDefinedType::Borrow(_) => self.push(&"borrow<resource>"),
            // No function of the contract has such types.
            ComponentDefinedType::Map { .. }
            | ComponentDefinedType::FixedLengthList { .. }
            | ComponentDefinedType::Future { .. }
            | ComponentDefinedType::Stream { .. } => self.push(&"another type"),
        }
    }

    fn generic(&mut self, kind: &str, values: impl IntoIterator<Item = &'a ComponentValType>) {
        self.text.push_str(kind);
        self.text.push('<');
        self.list(values.into_iter());
        self.text.push('>');
    }

    fn list<'v>(&mut self, values: impl Iterator<Item = &'v ComponentValType>) {
        for (place, value) in values.enumerate() {
            if place > 0 {
                self.text.push_str(", ");
            }
            self.value(value);
        }
    }

    fn or_none(&mut self, value: Option<&ComponentValType>) {
        match value {
            Some(value) => self.value(value),
            None => self.text.push('_'),
        }
    }

    /// Fields or cases: each with its name and its type, which stands between `before` and `behind`.
    fn fields_or_cases<'v>(
        &mut self,
        kind: &str,
        parts: impl Iterator<Item = (&'v str, Option<&'v ComponentValType>)>,
        [before, behind]: [&str; 2],
    ) {
        self.text.push_str(kind);
        for (place, (name, value)) in parts.enumerate() {
            self.text.push_str(if place > 0 { ", " } else { " { " });
            self.text.push_str(name);
            if let Some(value) = value {
                self.text.push_str(before);
                self.value(value);
                self.text.push_str(behind);
            }
        }
        self.text.push_str(" }");
    }

    fn push(&mut self, word: &impl std::fmt::Display) {
        write!(self.text, "{word}").expect("a string takes what is written");
    }
}
