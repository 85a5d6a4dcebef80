//! The names of the contract beside the keywords of languages. A name of several words is spelt so that it is none; one of a
//! single word stands as it is in most languages, as a parameter, a field or a function.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::{collections::BTreeSet, path::Path};

use wit_parser::{Resolve, TypeDefKind};

/// The reserved words of each language.
const LANGUAGES: [(&str, &str); 10] = [
    (
        "Rust",
        "abstract as async await become box break const continue crate do dyn else enum extern false final fn for gen if \
         impl in let loop macro match mod move mut override priv pub ref return self static struct super trait true try \
         type typeof unsafe unsized use virtual where while yield",
    ),
    (
        "Go",
        "break case chan const continue default defer else fallthrough for func go goto if import interface map package \
         range return select struct switch type var",
    ),
    (
        "C",
        "alignas alignof auto bool break case char const constexpr continue default do double else enum extern false \
         float for goto if inline int long nullptr register restrict return short signed sizeof static static_assert \
         struct switch thread_local true typedef typeof typeof_unqual union unsigned void volatile while asm",
    ),
    (
        "C++",
        "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const consteval \
         constexpr constinit const_cast continue co_await co_return co_yield decltype default delete do double \
         dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable namespace \
         new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires \
         return short signed sizeof static static_assert static_cast struct switch template this thread_local throw true \
         try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq",
    ),
    (
        "Python",
        "and as assert async await break class continue def del elif else except finally for from global if import in is \
         lambda nonlocal not or pass raise return try while with yield",
    ),
    (
        "JavaScript and TypeScript",
        "arguments await break case catch class const continue debugger default delete do else enum eval export extends \
         false finally for function if implements import in instanceof interface let new null package private protected \
         public return static super switch this throw true try typeof undefined var void while with yield",
    ),
    (
        "C#",
        "abstract as base bool break byte case catch char checked class const continue decimal default delegate do double \
         else enum explicit extern false finally fixed float for foreach goto if implicit in int interface internal is \
         lock long namespace new null object operator out override params private protected public readonly ref return \
         sbyte sealed short sizeof stackalloc static string struct switch this throw true try typeof uint ulong unchecked \
         unsafe ushort using virtual void volatile while event",
    ),
    (
        "Java",
        "abstract assert boolean break byte case catch char class const continue default do double else enum extends \
         false final finally float for goto if implements import instanceof int interface long native new null package \
         private protected public return short static strictfp super switch synchronized this throw throws transient true \
         try void volatile while",
    ),
    (
        "Kotlin",
        "as break class continue do else false for fun if in interface is null object package return super this throw \
         true try typealias typeof val var when while",
    ),
    (
        "Swift",
        "as associatedtype break case catch class continue default defer deinit do else enum extension fallthrough false \
         fileprivate for func guard if import in init inout internal is let nil open operator precedencegroup private \
         protocol public repeat rethrows return self static struct subscript super switch throw throws true try typealias \
         var where while",
    ),
];

/// Names that stay although a language reserves them: no other word is as plain, and its generator escapes them.
const KEPT: [(&str, &str); 1] = [("C#", "event")];

/// Every name of the contract.
fn names(resolve: &Resolve) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, interface) in &resolve.interfaces {
        names.extend(interface.name.clone());
        for (name, function) in &interface.functions {
            names.insert(name.clone());
            names.extend(function.params.iter().map(|param| param.name.clone()));
        }
    }
    for (_, definition) in &resolve.types {
        names.extend(definition.name.clone());
        match &definition.kind {
            TypeDefKind::Record(record) => {
                names.extend(record.fields.iter().map(|field| field.name.clone()));
            }
            TypeDefKind::Variant(variant) => {
                names.extend(variant.cases.iter().map(|case| case.name.clone()));
            }
            TypeDefKind::Enum(cases) => {
                names.extend(cases.cases.iter().map(|case| case.name.clone()));
            }
            TypeDefKind::Resource
            | TypeDefKind::Handle(_)
            | TypeDefKind::Flags(_)
            | TypeDefKind::Tuple(_)
            | TypeDefKind::Option(_)
            | TypeDefKind::Result(_)
            | TypeDefKind::List(_)
            | TypeDefKind::Map(..)
            | TypeDefKind::FixedLengthList(..)
            | TypeDefKind::Future(_)
            | TypeDefKind::Stream(_)
            | TypeDefKind::Type(_)
            | TypeDefKind::Unknown => {}
        }
    }
    names
}

#[test]
fn no_name_is_a_keyword() {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    resolve.push_path(wit).unwrap();
    let names = names(&resolve);
    for expected in ["set-attribute", "exclude", "gone", "event", "request-id"] {
        assert!(names.contains(expected), "{expected}: {names:?}");
    }
    let mut found = Vec::new();
    for (language, keywords) in LANGUAGES {
        for keyword in keywords.split_whitespace() {
            let is_kept = KEPT.contains(&(language, keyword));
            if names.contains(keyword) != is_kept {
                found.push(format!("{keyword} in {language}"));
            }
        }
    }
    assert!(
        found.is_empty(),
        "names of the contract that are keywords, or that are kept and are none: {}",
        found.join(", ")
    );
}
