//! The examples of the public documentation of the syntax, and what must hold beyond them.

use super::*;

#[track_caller]
fn admits(pattern: &str, text: &str) -> bool {
    let read = Pattern::read(pattern);
    read.unwrap_or_else(|error| panic!("{pattern}: {error}"))
        .admits(text)
}

/// Of each pattern: the texts that it admits, and those that it does not.
#[track_caller]
fn check(pattern: &str, admitted: &[&str], others: &[&str]) {
    for text in admitted {
        assert!(admits(pattern, text), "{pattern} admits {text}");
    }
    for text in others {
        assert!(!admits(pattern, text), "{pattern} does not admit {text}");
    }
}

#[track_caller]
fn error(pattern: &str) -> String {
    match Pattern::read(pattern) {
        Ok(_) => panic!("{pattern} can be read"),
        Err(error) => error.to_string(),
    }
}

const BAD: &str = "[ERROR 400] BAD REQUEST";
const UNAUTHORIZED: &str = "[ERROR 401] UNAUTHORIZED REQUEST";
const MISSING: &str = "[ERROR 419] MISSING ARGUMENTS";
const INVALID: &str = "[ERROR 420] INVALID ARGUMENTS";
const INTERNAL: &str = "[ERROR 500] INTERNAL SERVER ERROR";

#[test]
fn terms_are_looked_for_anywhere_in_the_text_with_their_case() {
    check(
        "ERROR",
        &[BAD, UNAUTHORIZED, MISSING, INVALID],
        &["error", "[INFO] OK"],
    );
    check(
        "Exception",
        &["[ERROR] Caught IllegalArgumentException"],
        &[],
    );
    check("ERROR ARGUMENTS", &[MISSING, INVALID], &[BAD, UNAUTHORIZED]);
    check(
        "\"INTERNAL SERVER ERROR\"",
        &[INTERNAL],
        &["INTERNAL ERROR SERVER"],
    );
    check("\"ERROR 4\" \"] I\"", &[INVALID], &[MISSING]);
    check(
        "ERROR -ARGUMENTS",
        &[BAD, UNAUTHORIZED],
        &[MISSING, INVALID],
    );
    check(
        "\"ERROR\" - \"Exiting\"",
        &[BAD],
        &["Exiting with ERRORCODE: -1"],
    );
    check("-ERROR", &["[INFO] OK", ""], &[BAD]);
    check("größe_1", &["die größe_1"], &["grösse"]);
}

#[test]
fn one_of_the_optional_terms_is_enough_and_beside_others_they_do_not_count() {
    check(
        "?ERROR ?ARGUMENTS",
        &[BAD, MISSING, "ARGUMENTS"],
        &["[INFO] OK"],
    );
    check("?\"BAD REQUEST\" ?%ING A%", &[BAD, MISSING], &[INVALID]);
    let others = ["[INFO] REQUEST FAILED", "[WARN] UNAUTHORIZED REQUEST", BAD];
    check(
        "?ERROR ?ARGUMENTS REQUEST",
        &others,
        &["[ERROR] MISSING ARGUMENTS"],
    );
    check("?ERROR -ARGUMENTS", &["[INFO] OK"], &[MISSING]);
}

#[test]
fn an_empty_pattern_admits_everything() {
    for pattern in ["", "  ", "\" \"", "\"\"", "?\" \" ?x"] {
        check(pattern, &["", "x", BAD], &[]);
    }
}

#[test]
fn a_phrase_can_have_quotation_marks_and_backslashes() {
    check(r#""a \"b\" \\c""#, &[r#"a "b" \c"#], &["a b c"]);
    check(r#""a\d*""#, &[r"a\d*"], &["a1"]);
}

#[test]
fn the_texts_that_all_records_contain_are_known() {
    let pattern = Pattern::read("a -b \"c d\" %e%").expect("a pattern");
    assert_eq!(pattern.contained(), ["a", "c d"]);
    let pattern = Pattern::read("?a ?b").expect("a pattern");
    assert!(pattern.contained().is_empty());
}

#[test]
fn regular_expressions_have_the_documented_operators() {
    check(
        "%AUTHORIZED%",
        &[UNAUTHORIZED, "[SUCCESS 200] AUTHORIZED REQUEST"],
        &[BAD],
    );
    check("%^[hc]at%", &["hat", "cat x"], &["the cat"]);
    check("%[hc]at$%", &["the cat"], &["cats"]);
    check("%colou?r%", &["color", "colour"], &["colouur"]);
    check("%[abcx-z]%", &["a", "y"], &["d"]);
    check("%^a{3,5}$%", &["aaa", "aaaaa"], &["aa", "aaaaaa"]);
    check("%^a{,2}$%", &["", "aa"], &["aaa"]);
    check("%^a{2,}$%", &["aa", "aaaa"], &["a"]);
    check("%^a{2}$%", &["aa"], &["a", "aaa"]);
    check("%gra|ey%", &["gray", "grey"], &["groy"]);
    let one_of = "%^starting|^initializing|^shutting down%";
    check(
        one_of,
        &["starting ...", "shutting down"],
        &["skipping initializing ..."],
    );
    check("%abcc|ab[^c]$%", &["abcc ...", "aba"], &["aac ..."]);
    check(
        r"%\[.\]%",
        &["[a]", "[7]", "[@]", "[]]", "[ ]", "[ä]", "[\n]"],
        &["[]", "[ab]"],
    );
    check(r"%10\.10\.0\.1%", &["10.10.0.1"], &["10010,051"]);
    check("%10.10.0.1%", &["10010,051"], &[]);
    check("%^ab*c%", &["ac", "abc", "abbbc"], &["bc"]);
    check("%ab+c%", &["abc", "abbbc"], &["ac"]);
    check("%.at%", &["hat", "4at", "#at", " at"], &["at"]);
    check(r"%^\d\D\s\S\w\W$%", &["1a bc-", "1ä\t-_ "], &["aa bc-"]);
    check(r"%^[\d\-.]+$%", &["1-2.3"], &["1a"]);
    check(r"%^[^\w]$%", &["-", "ä"], &["_"]);
    check(r"%a\x3Ab\x28%", &["a:b("], &["a;b("]);
    check(r"%\\%", &[r"a\b"], &["ab"]);
    check(
        r"%^[\D]{2}[^\d]-[^\D]$%",
        &["äöü-1", "a\nc-0"],
        &["ä-1", "äöü-x", "äöüü-1"],
    );
    check("%^.{3}$%", &["äöü", "a\n€"], &["äö", "äöüa"]);
    check("%^[^a]{2}b%", &["ääb", "x€b"], &["äb", "aab"]);
    check("%a.*?b%", &["a-b"], &["a-"]);
}

#[test]
fn what_regular_expressions_do_not_have_is_refused_with_its_place() {
    for (pattern, expected) in [
        (
            "%something!%",
            r"At character 11: `!` cannot be used in a regular expression; write `\x21`.",
        ),
        (
            "%(a)%",
            r"At character 2: `(` cannot be used in a regular expression; write `\x28`.",
        ),
        (
            r"%\(%",
            r"At character 2: `\(` is not supported; write `\x28`.",
        ),
        (
            "%ä%",
            "At character 2: `ä` is not of ASCII; write `.` for any character.",
        ),
        (r"%\b%", r"At character 2: `\b` is not supported."),
        ("%*a%", "At character 2: `*` has nothing to repeat."),
        ("%a**%", "At character 4: `*` has nothing to repeat."),
        (
            "%a{3,2}%",
            "At character 7: the first number must not be larger than the second.",
        ),
        (
            "%a{,}%",
            "At character 5: repetitions have the form {m}, {m,}, {,n} or {m,n}.",
        ),
        (
            "%a{256}%",
            "At character 4: there can be 255 repetitions at most.",
        ),
        (
            "%[]a]%",
            "At character 2: this list of characters is empty or has no end.",
        ),
        (
            "%[z-a]%",
            "At character 6: a range goes from one character to a later one.",
        ),
        (
            "%a]%",
            r"At character 3: `]` closes nothing; write `\]` for the character itself.",
        ),
        (
            r"%\x8F%",
            r"At character 2: `\x` needs two digits from 00 to 7F.",
        ),
        (
            "a %x",
            "At character 3: this regular expression has no second `%`.",
        ),
        (
            "%%",
            "At character 2: a regular expression cannot be empty.",
        ),
        (
            "%a% %b% %c%",
            "At character 9: a pattern can have 2 regular expressions at most.",
        ),
        (
            "%.{255}.{255}%",
            "At character 2: this regular expression is too large. Use fewer repetitions.",
        ),
    ] {
        assert_eq!(error(pattern), expected, "{pattern}");
    }
}

const EVENT: &str = r#"{
  "eventType": "UpdateTrail", "sourceIPAddress": "111.111.111.111", "arrayKey": ["value", "another value"],
  "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}], "SomeObject": null, "ThisFlag": true,
  "cluster.name": "c", "latency": 500, "share": 0.5, "number": [1000, 0.001], "errorCode": 404, "text": "17",
  "big": 9007199254740993
}"#;

#[test]
fn conditions_on_json_select_strings_numbers_and_what_is_missing() {
    for pattern in [
        r#"{ $.eventType = "UpdateTrail" }"#,
        "{ $.eventType = UpdateTrail }",
        "{ $.sourceIPAddress != 123.123.* }",
        r#"{ $.arrayKey[0] = "value" }"#,
        "{ $.objectList[1].id = 2 }",
        "{ $.eventType = %Trail% }",
        "{ $.arrayKey[*] = %val.{2}% }",
        r"{ $.* = %111\.111\.111\.1[0-9]{1,2}% }",
        r#"{ $.['cluster.name'] = "c" }"#,
        r#"{$["cluster.name"]=c}"#,
        "{ $.SomeObject IS NULL }",
        "{ $.ThisFlag IS TRUE }",
        "{ $.SomeOtherObject NOT EXISTS }",
        "{ $.latency >= 500 }",
        "{ $.latency > +499 }",
        "{ $.latency < 10e3 }",
        "{ $.share <= .5 }",
        "{ $.share > 10e-3 }",
        "{ $.number[0] = 1e+3 }",
        "{ $.number[0] != 1e-3 }",
        "{ $.number[1] = 1e-3 }",
        "{ $.errorCode = 4* }",
        "{ $.errorCode != 500}",
        "{ $.errorCode = \"404\" }",
        "{ $.text = 17.0 }",
        "{ $.text > 16 }",
        "{ $.eventType = \"*Trail\" && $.eventType = \"Update*\" && $.eventType = \"U*T*l\" }",
        "{ $.latency = * }",
        "{ $.big = 9007199254740993 }",
        "{ $.big != 9007199254740992 }",
    ] {
        assert!(admits(pattern, EVENT), "{pattern}");
    }
    for pattern in [
        r#"{ $.eventType = "updatetrail" }"#,
        "{ $.sourceIPAddress != 111.111.* }",
        r#"{ $.arrayKey[1] = "value" }"#,
        r#"{ $.arrayKey[2] != "value" }"#,
        "{ $.arrayKey = value }",
        "{ $.arrayKey != value }",
        "{ $.missing != value }",
        "{ $.missing IS NULL }",
        "{ $.SomeObject NOT EXISTS }",
        "{ $.SomeObject = * }",
        "{ $.ThisFlag IS FALSE }",
        "{ $.ThisFlag = true }",
        "{ $.eventType > 5 }",
        "{ $.latency < 500 }",
        "{ $.objectList[*].id = 3 }",
        "{ $.eventType = \"*Trails\" }",
        "{ $.eventType = \"\\*Trail\" }",
    ] {
        assert!(!admits(pattern, EVENT), "{pattern}");
    }
    check(
        "{ $.a NOT EXISTS }",
        &["{}", " {\"b\": 1}"],
        &["", "a", "[]", "{", "x {}", "1"],
    );
}

#[test]
fn conditions_are_joined_in_the_documented_order() {
    let object = r#"{
      "user": {"id": 1, "email": "John.Stiles@example.com"},
      "users": [{"id": 2, "email": "John.Doe@example.com"}, {"id": 3, "email": "Jane.Doe@example.com"}],
      "actions": ["GET", "PUT", "DELETE"], "coordinates": [[0, 1, 2], [4, 5, 6], [7, 8, 9]]
    }"#;
    for (pattern, expected) in [
        (
            r#"{ ($.user.id = 1) && ($.users[0].email = "John.Doe@example.com") }"#,
            true,
        ),
        (
            r#"{ ($.user.id = 2 && $.users[0].email = "nonmatch") || $.actions[2] = "GET" }"#,
            false,
        ),
        (
            r#"{ $.user.email = "John.Stiles@example.com" || $.coordinates[0][1] = nonmatch && $.actions[2] = nomatch }"#,
            true,
        ),
        (
            r#"{ ($.user.email = "John.Stiles@example.com" || $.coordinates[0][1] = nonmatch) && $.actions[2] = nomatch }"#,
            false,
        ),
        (
            "{$.coordinates[1][*]=5&&$.users[*].id=3||$.a IS NULL}",
            true,
        ),
    ] {
        assert_eq!(admits(pattern, object), expected, "{pattern}");
    }
}

#[test]
fn what_cannot_be_read_of_a_json_pattern_is_refused_with_its_place() {
    let deep = format!("{{ {}$.a = 1{} }}", "(".repeat(33), ")".repeat(33));
    for (pattern, expected) in [
        (
            "{ }",
            "At character 3: a selector is expected, such as `$.name`.",
        ),
        (
            "{ $ = 1 }",
            "At character 4: a selector names a field, such as `$.name`.",
        ),
        (
            "{ $.a }",
            "At character 7: an operator is expected: =, !=, <, <=, > or >=.",
        ),
        (
            "{ $. = 1 }",
            "At character 5: the name of a field is expected after the period.",
        ),
        (
            "{ $.a[x] = 1 }",
            "At character 7: the number of an element, `*` or a name between quotation marks is expected.",
        ),
        (
            "{ $.a == 1 }",
            "At character 8: a value is expected: a text between quotation marks, a number or a regular expression \
             between `%`.",
        ),
        (
            "{ $.a > abc }",
            "At character 9: `>` compares numbers; this is none.",
        ),
        (
            "{ $.a <= \"5\" }",
            "At character 10: `<=` compares numbers; this is none.",
        ),
        (
            "{ $.a IS NOT NULL }",
            "At character 10: NULL, TRUE or FALSE is expected after IS.",
        ),
        (
            "{ $.a NOT NULL }",
            "At character 11: EXISTS is expected after NOT.",
        ),
        (
            "{ $.a = 1 && }",
            "At character 14: a selector is expected, such as `$.name`.",
        ),
        ("{ ($.a = 1 }", "At character 12: `)` is expected, not `}`."),
        ("{ $.a = 1", "At character 10: `}` is missing at the end."),
        (
            "{ $.a = 1 } x",
            "At character 13: nothing can follow the closing brace.",
        ),
        (
            "{ $.a = \"x }",
            "At character 9: this quotation mark has no second one.",
        ),
        (
            "{ $.*.* = 1 }",
            "At character 8: a selector can have one wildcard, and a pattern 3 of them.",
        ),
        (
            &deep,
            "At character 36: parentheses can be nested 32 deep at most.",
        ),
    ] {
        assert_eq!(error(pattern), expected, "{pattern}");
    }
}

const REQUEST: &str =
    r#"127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534"#;

#[test]
fn conditions_on_words_follow_their_order() {
    for pattern in [
        r"[ip=%127\.0\.0\.[1-9]%, user, username, timestamp, request =*.html*, status_code = 4*, bytes]",
        "[..., request =*.html*, status_code = 4*, bytes]",
        "[ip, user, username, timestamp, request =*.html*, status_code = 404 || status_code = 410, bytes]",
        "[ip, user, username, timestamp, request, status_code = 4* && status_code != 403, bytes > 1000]",
        "[ip, user, ..., status_code, bytes = 1534 && status_code < 500]",
        "[ip, user, ...]",
        "[..., request=*.html*, status_code=4*,]",
        "[ip, user, rest = *1534]",
        "[ip, , name = frank, time = \"10/Oct/2000:13:25:15 -0700\", ...]",
        "[line = 127*]",
        "[a, b, c, d, e, f, g]",
        "[...]",
        "[]",
    ] {
        assert!(admits(pattern, REQUEST), "{pattern}");
    }
    for pattern in [
        "[..., status_code = 5*, bytes]",
        "[a, b, c, d, e, f, g, h]",
        "[a, b, c, d, ..., e, f, g, h]",
        "[ip = frank, ...]",
        "[ip, user != Prod, ...]",
        "[..., bytes > 1534]",
        "[ip > 5, ...]",
    ] {
        assert!(!admits(pattern, REQUEST), "{pattern}");
    }
    let lines = [
        "INFO 09/25/2014 12:00:00 GET /service/resource/67 1200",
        "INFO 09/25/2014 12:00:01 POST /service/resource/67/part/111 1310",
        "WARNING 09/25/2014 12:00:02 Invalid user request",
        "ERROR 09/25/2014 12:00:02 Failed to process request",
    ];
    for (pattern, expected) in [
        ("[w1=ERROR, w2]", &[3][..]),
        ("[w1=ERROR || w1=WARNING, w2]", &[2, 3]),
        ("[w1!=ERROR && w1!=WARNING, w2]", &[0, 1]),
        ("[w1=ERROR || w1=%WARN%, w2]", &[2, 3]),
        (
            "[logLevel, date, time, method, url=%/service/resource/[0-9]+$%, response_time]",
            &[0],
        ),
        (
            "[logLevel, date, time, method, url=%/service/resource/[0-9]+/part/[0-9]+$%, response_time]",
            &[1],
        ),
    ] {
        let found: Vec<_> = (0..lines.len())
            .filter(|at| admits(pattern, lines[*at]))
            .collect();
        assert_eq!(found, expected, "{pattern}");
    }
}

#[test]
fn what_does_not_close_is_a_word() {
    check("[a = \"\\\"x\", b]", &["\"x y"], &["\"x\" y"]);
    check("[a = \"[x\", b = \"y\"]", &["[x y"], &[]);
    check("[a = \"x]y\", b]", &["\"x]y\" z"], &[]);
    check("[a, b]", &["[] \"\"", "  a \t b  "], &["", "[a b]", " a "]);
}

#[test]
fn what_cannot_be_read_of_a_pattern_of_words_is_refused_with_its_place() {
    for (pattern, expected) in [
        (
            "[a",
            "At character 3: an operator is expected: =, !=, <, <=, > or >=.",
        ),
        (
            "[a, a]",
            "At character 6: there is already a word named `a`.",
        ),
        (
            "[a, ..., b, ...]",
            "At character 16: a pattern can have one `...`.",
        ),
        (
            "[a = 1 || b = 2]",
            "At character 12: no word before this is named `b`.",
        ),
        (
            "[1a]",
            "At character 2: the name of a word is expected, or `...`.",
        ),
        (
            "[a = ]",
            "At character 6: a value is expected: a text between quotation marks, a number or a regular expression \
             between `%`.",
        ),
        (
            "[a] b",
            "At character 5: nothing can follow the closing bracket.",
        ),
        ("[..]", "At character 2: `...` is expected, not `.`."),
    ] {
        assert_eq!(error(pattern), expected, "{pattern}");
    }
}

#[test]
fn a_term_with_other_characters_needs_quotation_marks() {
    let expected = "At character 3: invalid character(s) in term 'foo-bar': a term that has others than letters, digits \
                    and `_` must be between quotation marks.";
    assert_eq!(error("a foo-bar"), expected);
    assert_eq!(
        error("a ?"),
        "At character 4: a term is expected after `?` or `-`."
    );
    assert_eq!(
        error("a \"b"),
        "At character 3: this quotation mark has no second one."
    );
    let long = "a".repeat(LENGTH_MAX + 1);
    assert_eq!(error(&long), "The pattern is longer than 1024 characters.");
    assert!(Pattern::read(&long[1..]).is_ok());
}

#[test]
fn a_word_begins_with_any_character() {
    check("[a = ü*, b = ☃]", &["ünï ☃"], &["☃ ünï"]);
    check("[a = \"☃\", b = \"☃ ☃\", c]", &["\"☃\" [☃ ☃] \u{362}"], &[]);
    check(
        "[a, b = \"\u{362}x\"]",
        &["\u{e9} \u{362}x", "[ \u{362}x"],
        &[],
    );
}
