//! The rules as tables. [`properties`] has them as properties.

use super::{
    Selection,
    expression::Reason::{self, *},
};

mod properties;

/// The message of the developer guide's examples.
const CHAT: &str = r#"{"service":"chat","action":"join","data":{"room":"room1234"}}"#;

#[test]
fn examples_of_the_guide_select_as_documented() {
    check("$request.body.action", CHAT, "join");
    check("${request.body.action}", CHAT, "join");
    check(
        "${request.body.service}/${request.body.action}",
        CHAT,
        "chat/join",
    );
    check(
        "${request.body.action}-${request.body.invalidPath}",
        CHAT,
        "join-",
    );
    check("action", CHAT, "action");
    check(r"\$default", CHAT, "$default");
}

#[test]
fn literals_and_variables_are_joined() {
    check(
        "$request.body.service/$request.body.action",
        CHAT,
        "chat/join",
    );
    check(
        "$request.body.service$request.body.action",
        CHAT,
        "chatjoin",
    );
    check("on:$request.body.action!", CHAT, "on:join!");
    check("${request.body.action}ed", CHAT, "joined");
    check("${request.body.action}.x", CHAT, "join.x");
    check("${request.body.action}[0]", CHAT, "join[0]");
    check(r"\$$request.body.action", CHAT, "$join");
    check(r"\$request.body.action", CHAT, "$request.body.action");
    check(r"a\b\", CHAT, r"a\b\");
    check(r"\\$x", CHAT, r"\$x");
    check("{}} é 🦀", CHAT, "{}} é 🦀");
    check(
        "$request.body.action",
        r#"{"action":"$request.body.x","x":1}"#,
        "$request.body.x",
    );
    check(
        "$request.body.action",
        r#"{"action":"$connect"}"#,
        "$connect",
    );
}

#[test]
fn names_select_members() {
    check(
        "$request.body.detail-type",
        r#"{"detail-type":"a","detail":"b"}"#,
        "a",
    );
    check("$request.body.a_1", r#"{"a_1":"x"}"#, "x");
    check("$request.body.0", r#"{"0":"x"}"#, "x");
    check("$request.body.größe", r#"{"größe":"x"}"#, "x");
    check("${request.body.user:id/@x}", r#"{"user:id/@x":"x"}"#, "x");
    check("$request.body['user name']", r#"{"user name":"x"}"#, "x");
    check(r#"$request.body["it's"]"#, r#"{"it's":"x"}"#, "x");
    check(r"$request.body['it\'s \$1']", r#"{"it's $1":"x"}"#, "x");
    check(
        "$request.body['a.b'][ 'c' ].d",
        r#"{"a.b":{"c":{"d":"x"}}}"#,
        "x",
    );
    check(
        "$request.body['}']$request.body['']",
        r#"{"}":"x","":"y"}"#,
        "xy",
    );
    check("$request.body.Action", CHAT, "");
    check("$request.body.action", r#"{"\u0061ction":"x"}"#, "x");
    check("$request.body.data.room", CHAT, "room1234");
    check("$request.body.data.room.x", CHAT, "");
    check("$request.body.action.length", CHAT, "");
    check("$request.body.action", "[]", "");
    check("$request.body.action", r#"[{"action":"x"}]"#, "");
    check("$request.body.action", "{}", "");
    check("$request.body.action", "1", "");
}

#[test]
fn values_become_texts() {
    check("$request.body.a", r#"{"a":12}"#, "12");
    check("$request.body.a", r#"{"a":-1.50e+400}"#, "-1.50e+400");
    check("$request.body.a", r#"{"a":true}"#, "true");
    check("$request.body.a", r#"{"a":false}"#, "false");
    check("$request.body.a", r#"{"a":null}"#, "");
    check("$request.body.a", r#"{"a":""}"#, "");
    check(
        "$request.body.a",
        r#"{"a": [1,"b" , true,null,""] }"#,
        "[1, b, true, null, ]",
    );
    check("$request.body.a", r#"{"a":["",""]}"#, "[, ]");
    check("$request.body.a", r#"{"a":[]}"#, "[]");
    check(
        "$request.body.a",
        r#"{"a":[["x",1],{"b": 2}]}"#,
        r#"[["x",1], {"b": 2}]"#,
    );
    check("$request.body.data", CHAT, r#"{"room":"room1234"}"#);
    check(
        "$request.body.a",
        r#"{"a":"q\"\\\/\n\u00e9\ud83e\udd80"}"#,
        "q\"\\/\né🦀",
    );
    check(
        "$request.body.a",
        r#"{"a":"x\ud800y"}"#,
        "x\u{fffd}\u{fffd}\u{fffd}y",
    );
    check("$request.body", " \"x\"\n", "x");
    check("$request.body", "\t{\"a\": 1}\r\n", "{\"a\": 1}");
    check("$request.body", "[1,2]", "[1, 2]");
    check("<$request.body>", "null", "<>");
}

#[test]
fn indices_slices_and_unions_select_elements() {
    let body = r#"{"a":["p","q","r","s"],"b":{"x":1,"y":2}}"#;
    check("$request.body.a[0]", body, "p");
    check("$request.body.a[3]", body, "s");
    check("$request.body.a[4]", body, "");
    check("$request.body.a[-1]", body, "s");
    check("$request.body.a[-4]", body, "p");
    check("$request.body.a[-5]", body, "");
    check("$request.body.a[-9223372036854775808]", body, "");
    check(
        "$request.body[2]",
        r#"[2,"id","BootNotification",{}]"#,
        "BootNotification",
    );
    check("$request.body.b[0]", body, "");
    check("$request.body.a[1:3]", body, "[q, r]");
    check("$request.body.a[:2]", body, "[p, q]");
    check("$request.body.a[-2:]", body, "[r, s]");
    check("$request.body.a[-9:-3]", body, "[p]");
    check("$request.body.a[ 3 : 1 ]", body, "[]");
    check("$request.body.a[::2]", body, "[p, r]");
    check("$request.body.a[1::2]", body, "[q, s]");
    check("$request.body.a[:]", body, "[p, q, r, s]");
    check(
        "$request.body.a[:9223372036854775807:9223372036854775807]",
        body,
        "[p]",
    );
    check("$request.body.b[1:3]", body, "[]");
    check("$request.body.a[2, 0]", body, "[r, p]");
    check("$request.body.a[0,-1,9,1:2]", body, "[p, s, q]");
    check("$request.body.b['y','z','x']", body, "[2, 1]");
}

#[test]
fn wildcards_and_searches_select_lists() {
    let body = r#"{"a":[{"n":1},{"n":2},3],"n":{"n":4,"m":[{"n":5}]}}"#;
    check("$request.body.a[*].n", body, "[1, 2]");
    check("$request.body.a.*", body, r#"[{"n":1}, {"n":2}, 3]"#);
    check("$request.body.n[*]", body, r#"[4, [{"n":5}]]"#);
    check(
        "$request.body..n",
        body,
        r#"[{"n":4,"m":[{"n":5}]}, 1, 2, 4, 5]"#,
    );
    check(
        "$request.body..['m','n']",
        r#"{"n":1,"m":{"n":2}}"#,
        r#"[{"n":2}, 1, 2]"#,
    );
    check("$request.body..[0]", body, r#"[{"n":1}, {"n":5}]"#);
    check("$request.body.n..*", body, r#"[4, [{"n":5}], {"n":5}, 5]"#);
    check("$request.body..a[0].n", body, "[1]");
    check("$request.body.missing[*]", body, "[]");
    check("$request.body..missing", body, "[]");
    check("$request.body..a..n", body, "[1, 2]");
    check("$request.body..n", "1", "[]");
}

#[test]
fn last_of_equal_names_counts() {
    check("$request.body.a", r#"{"a":1,"b":0,"a":2}"#, "2");
    check("$request.body.a", r#"{"a":1,"\u0061":2}"#, "2");
    check("$request.body.a.b", r#"{"a":{"b":1},"a":2}"#, "");
    check("$request.body.*", r#"{"a":1,"b":0,"a":2}"#, "[2, 0]");
    check("$request.body..a", r#"{"a":{"a":1},"a":2}"#, "[2]");
}

#[test]
fn body_that_is_not_json_selects_nothing() {
    for body in [
        "",
        " ",
        "hello",
        "{",
        "{}}",
        "{} x",
        "[1,]",
        "nul",
        "'a'",
        "01",
        "\u{feff}{}",
        r#"{"action":"join"} {"action":"join"}"#,
        r#"{"action":"join","x":}"#,
        r#"{"action":"join",}"#,
        r#"{"action":"join"#,
        r#"{action:"join"}"#,
        r#"{"action":"join",body:"hello"}"#,
        r#"{"action":"join","a":"\x"}"#,
        "{\"action\":\"join\",\"a\":\"\t\"}",
        "{\"action\":\"join\",\"\t\":1}",
        "{\"action\":\"\n\"}",
        r#"{"action":"join","a":[{"b":tru}]}"#,
        r#"{"action":"join","a":NaN}"#,
        "[1 2]",
    ] {
        check("$request.body.action", body, None);
        check("$request.body[0]", body, None);
        check("$request.body[-1]", body, None);
        check("$request.body[*]", body, None);
        check("$request.body..action", body, None);
        check("$request.body", body, None);
        check("x$request.body.action", body, None);
        check("constant", body, None);
    }
}

#[test]
fn json_that_a_tree_parser_may_refuse_is_selected_from() {
    check(
        "$request.body.action",
        r#"{"\ud800":1,"action":"join"}"#,
        "join",
    );
    check(
        "$request.body.action",
        r#"{"a":"\ud800","action":"join"}"#,
        "join",
    );
    check(
        "$request.body.action",
        r#"{"a":1e999,"action":"join"}"#,
        "join",
    );
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!(r#"{{"action":"x","a":{open}{close},"b":"\"{open}{open}"}}"#)
    };
    for expression in [
        "$request.body.action",
        "$request.body..a",
        "$request.body.*",
        "x",
    ] {
        let selection = parse(expression);
        assert!(selection.evaluate(&nested(126)).is_some(), "{expression}");
        assert_eq!(selection.evaluate(&nested(127)), None, "{expression}");
        assert_eq!(selection.evaluate(&nested(1_000_000)), None, "{expression}");
        assert_eq!(
            selection.evaluate(&"[{".repeat(1_000_000)),
            None,
            "{expression}"
        );
    }
    let wide = format!(r#"{{"a":[{}0],"action":"x"}}"#, "{},".repeat(10_000));
    check("$request.body.action", &wide, "x");
}

#[test]
fn search_is_bounded() {
    let nested = |depth: usize, len: usize| {
        let (open, close) = (r#"{"a":"#.repeat(depth), "}".repeat(depth));
        format!(r#"{open}"{}"{close}"#, "x".repeat(len))
    };
    let found = |body: &str| parse("$request.body..a").evaluate(body).is_some();
    assert!(found(&nested(127, 1)));
    assert!(found(&nested(127, 4 * 1024)));
    assert!(found(&nested(12, 128 * 1024)));
    assert!(!found(&nested(20, 128 * 1024)));
    assert_eq!(
        parse("$request.body..*..*..*").evaluate(&nested(127, 64 * 1024)),
        None
    );
}

#[test]
fn usual_selection_borrows_from_the_message() {
    let borrowed = |expression, body| {
        let selection = parse(expression);
        matches!(
            selection.evaluate(body),
            Some(std::borrow::Cow::Borrowed(_))
        )
    };
    assert!(borrowed("$request.body.action", CHAT));
    assert!(borrowed("${request.body.data.room}", CHAT));
    assert!(borrowed("$request.body.missing", CHAT));
    assert!(borrowed("constant", CHAT));
    assert!(borrowed("$request.body[0]", "[12]"));
}

#[test]
fn invalid_expression_is_refused_with_its_place() {
    check_error("", 1, "", Empty);
    check_error("$", 1, "$", BareDollar);
    check_error("a$", 2, "$", BareDollar);
    check_error("$$request.body.a", 1, "$", BareDollar);
    check_error("é$/x", 2, "$", BareDollar);
    check_error("${}", 1, "${", EmptyBraces);
    check_error("${ request.body.a}", 1, "${", EmptyBraces);
    check_error("$default", 1, "$default", UnknownVariable);
    check_error("$request", 1, "$request", UnknownVariable);
    check_error("$request.bodyx", 1, "$request.bodyx", UnknownVariable);
    check_error(
        "x/${context.routeKey}",
        3,
        "${context.routeKey",
        UnknownVariable,
    );
    check_error("$stageVariables.x", 1, "$stageVariables.x", UnknownVariable);
    check_error("$request.header.x", 1, "$request.header.x", Header);
    check_error("${request.header.x-y}", 1, "${request.header.x-y", Header);
    check_error(
        "$request.querystring.x",
        1,
        "$request.querystring.x",
        QueryString,
    );
    check_error("a${request.body.b", 2, "${request.body.b", OpenBrace);
    check_error("${request.body", 1, "${request.body", OpenBrace);
    check_error("$request.body.", 14, ".", NoName);
    check_error("${request.body.}", 15, ".", NoName);
    check_error("$request.body.a.", 16, ".", NoName);
    check_error("$request.body.a.$request.body.b", 16, ".", NoName);
    check_error("$request.body..", 14, "..", NoName);
    check_error("$request.body...a", 14, "..", NoName);
    check_error("${request.body.a b}", 17, " ", NotInName);
    check_error("${request.body.$.a}", 15, ".", NoName);
    check_error("$request.body[]", 14, "[]", Bracket);
    check_error("$request.body[a]", 14, "[a", Bracket);
    check_error("$request.body['a',]", 14, "['a',]", Bracket);
    check_error("$request.body['a'.b]", 14, "['a'.", Bracket);
    check_error("$request.body[1:2:3:4]", 14, "[1:2:3:", Bracket);
    check_error("$request.body[-]", 14, "[-]", Bracket);
    check_error("$request.body..[[", 14, "..[[", Bracket);
    check_error("$request.body[", 14, "[", OpenBracket);
    check_error("$request.body[0", 14, "[0", OpenBracket);
    check_error("$request.body['a'", 14, "['a'", OpenBracket);
    check_error("$request.body['a]", 15, "'a]", OpenQuote);
    check_error(r"$request.body['\n']", 16, r"\n", Escape);
    check_error(
        "$request.body[9223372036854775808]",
        15,
        "9223372036854775808",
        Index,
    );
    check_error("$request.body[::0]", 17, "0", Step);
    check_error("$request.body[::-1]", 17, "-1", Step);
    check_error("$request.body.a[?(@.b)]", 16, "[?", Filter);
    check_error("$request.body.a[(@.length-1)]", 16, "[(", Filter);
    check_error("$request.body.a.length()", 16, ".length(", Function);
}

#[test]
fn error_names_part_place_and_remedy() {
    let message = |expression| {
        Selection::parse(expression)
            .expect_err("refused")
            .to_string()
    };
    assert_eq!(
        message("v1/$request.header.x"),
        "at character 4, `$request.header.x`: \
         a message has no headers; only request.body can select a route",
    );
    assert_eq!(
        message("${}"),
        "at character 1, `${`: the braces name no variable; write `${request.body.action}`",
    );
}

/// Fails unless `expression` gives `expected` for `body`, which is `None` where that is not JSON.
#[track_caller]
fn check<'e>(expression: &str, body: &str, expected: impl Into<Option<&'e str>>) {
    let selection = parse(expression);
    assert_eq!(
        selection.evaluate(body).as_deref(),
        expected.into(),
        "{expression} in {body}"
    );
}

#[track_caller]
fn check_error(expression: &str, position: usize, part: &str, reason: Reason) {
    let error = Selection::parse(expression).expect_err(expression);
    assert_eq!(
        (error.position, error.part.as_str(), error.reason),
        (position, part, reason),
        "{expression}",
    );
}

#[track_caller]
fn parse(expression: &str) -> Selection {
    Selection::parse(expression).expect(expression)
}
