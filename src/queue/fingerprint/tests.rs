//! Errors as PHP, Python, Node, Ruby and the shell tell them: what groups and what does not, and the
//! numbers that never change.

use super::{fingerprint, message_shape};
use crate::base::id::JobId;
use crate::base::limits::ERROR_SHAPE_BYTES_MAX;
use crate::base::rng::Rng;
use crate::testing::seeds;

const PHP_SQL: [&str; 3] = [
    "Illuminate\\Database\\QueryException",
    "SQLSTATE[23000]: Integrity constraint violation: 1062 Duplicate entry 'anna@example.com' for key \
     'users.users_email_unique' (Connection: mysql, SQL: insert into `users` (`email`) values \
     (anna@example.com))",
    "#0 /var/www/releases/20260911/vendor/laravel/framework/src/Illuminate/Database/Connection.php(825): \
     Illuminate\\Database\\Connection->runQueryCallback('insert into `us...', Array, Object(Closure))\n\
     #1 /var/www/releases/20260911/app/Jobs/Register.php(31): handle()\n#2 {main}",
];
const PHP_SQL_AGAIN: [&str; 3] = [
    "Illuminate\\Database\\QueryException",
    "SQLSTATE[23000]: Integrity constraint violation: 1062 Duplicate entry 'o'hara@shop.test' for key \
     'users.users_email_unique' (Connection: mysql, SQL: insert into `users` (`email`) values \
     (bo+x@shop.test))",
    "#0 /var/www/releases/20261121/vendor/laravel/framework/src/Illuminate/Database/Connection.php(830): \
     Illuminate\\Database\\Connection->runQueryCallback('insert into `us...', Array, Object(Closure))\n\
     #1 /var/www/releases/20261121/app/Jobs/Register.php(33): handle()\n#2 {main}",
];
const PYTHON: [&str; 3] = [
    "requests.exceptions.ConnectTimeout",
    "HTTPSConnectionPool(host='api.stripe.com', port=443): Max retries exceeded with url: \
     /v1/charges/ch_3MmlLrLkdIwHu7ix0snN0B15?expand=x (Caused by ConnectTimeoutError(<urllib3.connection\
     .HTTPSConnection object at 0x7f1c2e5d3a90>, 'timed out'))",
    "Traceback (most recent call last):\n  File \"/srv/app/worker.py\", line 88, in run\n    \
     job.perform()\n  File \"/srv/app/billing.py\", line 31, in charge\n    post(url)\n\
     requests.exceptions.ConnectTimeout: HTTPSConnectionPool",
];
const PYTHON_AGAIN: [&str; 3] = [
    "requests.exceptions.ConnectTimeout",
    "HTTPSConnectionPool(host='api.stripe.com', port=443): Max retries exceeded with url: \
     /v1/charges/ch_1PgaBcLkdIwHu7ixQx93mZ77?expand=y (Caused by ConnectTimeoutError(<urllib3.connection\
     .HTTPSConnection object at 0x7f1c00000b10>, 'timed out'))",
    "Traceback (most recent call last):\n  File \"/srv/app/other.py\", line 9, in start\n    \
     job.perform()\n  File \"/srv/app/billing.py\", line 32, in charge\n    post(url)\n\
     requests.exceptions.ConnectTimeout: HTTPSConnectionPool",
];
const NODE: [&str; 3] = [
    "TypeError",
    "Cannot read properties of undefined (reading 'total')",
    "TypeError: Cannot read properties of undefined (reading 'total')\n    at sum \
     (/app/dist/invoice.js:120:17)\n    at async work (file:///app/worker.mjs:8:3)",
];
const NODE_AGAIN: [&str; 3] = [
    "TypeError",
    "Cannot read properties of undefined (reading 'vat')",
    "TypeError: Cannot read properties of undefined (reading 'vat')\n    at sum \
     (/app/dist/invoice.js:121:9)\n    at async work (file:///app/worker.mjs:9:3)",
];
const RUBY: [&str; 3] = [
    "ActiveRecord::RecordNotFound",
    "Couldn't find Order with 'id'=4711",
    "/app/app/jobs/ship_job.rb:12:in 'ShipJob#perform'\n/app/bin/work:3:in '<main>'",
];
const RUBY_AGAIN: [&str; 3] = [
    "ActiveRecord::RecordNotFound",
    "Couldn't find Order with 'id'=815",
    "/app/app/jobs/ship_job.rb:14:in 'ShipJob#perform'\n/app/bin/other:9:in '<main>'",
];
const SHELL: [&str; 3] = [
    "exit",
    "exit status 11",
    "sending incremental file list\nrsync: [sender] change_dir \"/backup/2026-11-20\" failed: No such file \
     or directory (2)\n",
];
const SHELL_AGAIN: [&str; 3] = [
    "exit",
    "exit status 11",
    "sending incremental file list\nx\nrsync: [sender] change_dir \"/backup/2026-11-21\" failed: No such \
     file or directory (2)\n\n",
];

fn of([class, message, trace]: [&str; 3]) -> u64 {
    fingerprint(class, message, Some(trace))
}

#[test]
fn two_occurrences_of_an_error_group() {
    for [first, again] in [
        [PHP_SQL, PHP_SQL_AGAIN],
        [PYTHON, PYTHON_AGAIN],
        [NODE, NODE_AGAIN],
        [RUBY, RUBY_AGAIN],
        [SHELL, SHELL_AGAIN],
    ] {
        let shapes = (message_shape(first[1]), message_shape(again[1]));
        assert_eq!(shapes.0, shapes.1);
        assert_eq!(of(first), of(again), "{first:?}");
    }
}

#[test]
fn another_class_another_message_or_another_place_is_another_error() {
    let mut all = Vec::new();
    for error in [PHP_SQL, PYTHON, NODE, RUBY, SHELL] {
        let [class, message, trace] = error;
        all.push(of(error));
        all.push(of(["RuntimeException", message, trace]));
        all.push(of([class, "something else went wrong", trace]));
        all.push(of([class, message, "at elsewhere (/app/elsewhere.js:1:2)"]));
        all.push(fingerprint(class, message, None));
    }
    let class_moved = fingerprint("ab", "c", None);
    all.extend([class_moved, fingerprint("a", "bc", None), fingerprint("", "abc", None)]);
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "two of them share a number");
}

#[test]
fn the_numbers_never_change() {
    let numbers = [PHP_SQL, PYTHON, NODE, RUBY, SHELL].map(of);
    assert_eq!(numbers, GOLDEN);
    assert_eq!(fingerprint("", "", None), GOLDEN_EMPTY);
}

const GOLDEN: [u64; 5] = [
    5_996_527_711_929_960_361,
    10_457_689_018_918_959_572,
    15_160_141_782_259_475_327,
    14_084_556_298_483_058_466,
    5_153_914_140_749_640_825,
];
const GOLDEN_EMPTY: u64 = 7_170_388_609_315_322_727;

#[test]
fn a_shape_keeps_the_words_and_marks_what_differs() {
    for (message, shape) in [
        ("", ""),
        ("\n  \n  second  line\t here \nthird", "second line here"),
        (
            "order 4711 of user-12 costs -3.50 EUR, 1.000,00 in all",
            "order # of user-# costs # EUR, #,# in all",
        ),
        ("at 2026-11-21 10:00:03 and 2026-11-21T10:00:03.123Z", "at # #:#:# and #T#:#:#Z"),
        ("job 0123456789abc lost its lease", "job # lost its lease"),
        ("lease 5zzzzzzzzzzzz0000000000001fq3r9xk2m7w8t is gone", "lease # is gone"),
        ("user 3f2504e0-4f89-11d3-9a0c-0305e82c3301.", "user #."),
        ("commit 9fceb02d0ae598e9 in 0xdeadbeef, not deadbeef", "commit # in #, not deadbeef"),
        ("customer cus_9s6XKzkNRiz8i3 has none", "customer cus_# has none"),
        ("utf8, sha256, Base64Encoder and php8.1", "utf#, sha#, Base#Encoder and php#"),
        ("cannot mail bob.o+x@example.co.uk: refused", "cannot mail #: refused"),
        ("to=bob@example.com <eve@example.com>", "to=# <#>"),
        ("don't use 'a b' or \"c\" or `d`", "don't use # or # or #"),
        ("'it can't be'", "#"),
        ("it's 5 o'clock", "it's # o'clock"),
        ("bytes b'\\x00\\x01' read", "bytes b# read"),
        ("an open \"quote stays", "an open \"quote stays"),
        ("\u{201e}Umlaut\u{201d} fehlt f\u{fc}r \u{ab}x\u{bb}", "# fehlt f\u{fc}r #"),
        (
            "GET https://shop.test/orders/99/items?page=3&x=y failed",
            "GET https://shop.test/orders/#/items?# failed",
        ),
        ("open /tmp/phpXyZabc: denied", "open /tmp/#: denied"),
        ("open /tmp/a/b/c.txt", "open /tmp/#"),
        ("in /home/shop/releases/17/a.php:12", "in /home/shop/releases/#/a.php:#"),
        ("why?", "why?"),
        ("10.0.0.12:6379 refused", "#:# refused"),
        ("10.0.0.7:11211 refused", "#:# refused"),
    ] {
        assert_eq!(message_shape(message), shape, "{message:?}");
    }
}

#[test]
fn the_place_is_the_innermost_frame_without_its_line() {
    let place = |trace| super::place(trace);
    for (trace, expected) in [
        ("", ""),
        (
            "#0 [internal function]: App\\{closure}('x')\n#1 /x.php(3): f()",
            "[internal function] App\\{closure}",
        ),
        ("#0 {main}", "{main} "),
        ("#1 building the image\nno such layer", "no such layer"),
        ("Error\n#0 C:\\shop\\a.php(12): f('a(b): c')", "C:\\shop\\a.php f"),
        ("x\n    at /app/a.js:1:2\n    at b (/app/b.js:3:4)", "/app/a.js "),
        ("    at new Shop (node:internal/shop:10:3)", "node:internal/shop new Shop"),
        ("    at Array.map (<anonymous>)", "<anonymous> Array.map"),
        ("    at com.shop.Mail.send(Mail.java:77)", "Mail.java com.shop.Mail.send"),
        ("look at the log\nat this place", "at this place"),
        ("\tfrom app/a.rb:3:in `block (2 levels) in run'", "app/a.rb block (# levels) in run"),
        ("app/a.rb:3:in 'A#run': no (RuntimeError)\n", "app/a.rb A#run"),
        ("  File \"a.py\", line 1, in f\n  File \"b.py\", line 2", "b.py "),
        (
            "  File \"a.py\", line 1, in f\n    g()\n  File \"b.py\", line 2, in g\n    h()\n  \
             File \"c.py\", line 3, in h\n    x",
            "c.py h",
        ),
        ("bash: line 3: foo: command not found\n", "bash: line #: foo: command not found"),
    ] {
        assert_eq!(place(trace), expected, "{trace:?}");
    }
}

#[test]
fn a_class_of_php_without_a_name_is_not_told_by_its_address() {
    let named = |class| fingerprint(class, "no", None);
    let [first, again] = ["5a1", "7f3"].map(|end| format!("A@anonymous\0/app/x.php:12${end}"));
    assert_eq!(named(&first), named(&again));
    assert_ne!(named("Error404"), named("Error500"), "a class is taken as it is");
}

#[test]
fn any_text_has_a_shape_within_its_bound_and_ids_never_matter() {
    const PIECES: &[&str] = &[
        "'",
        "\"",
        "`",
        "\u{201c}",
        "\u{201d}",
        " ",
        "\n",
        "a",
        "ab",
        "1",
        "#",
        "@",
        ".",
        "?",
        "/",
        "/tmp/",
        "\u{fc}",
        "\u{20ac}",
        "-",
        "0x",
        "f00d",
        ":",
        "at ",
        "(",
        ")",
        "File \"",
        "\", line ",
        "\0",
    ];
    for seed in seeds(3000) {
        let mut rng = Rng::from_seed(seed);
        let text: String = (0..rng.below(600)).map(|_| PIECES[rng.index(PIECES.len())]).collect();
        let shape = message_shape(&text);
        assert!(shape.len() <= ERROR_SHAPE_BYTES_MAX, "seed={seed} {text:?}");
        assert_eq!(fingerprint(&text, &text, Some(&text)), fingerprint(&text, &text, Some(&text)));

        let [a, b] = [(); 2].map(|()| JobId::from_raw(rng.next_u64()));
        let told = |id: JobId| {
            let (hash, number) = (rng_hex(id), id.raw());
            format!("job {id}: {hash} at {number} of order-{number} in /srv/{id}/x failed ({id})")
        };
        assert_eq!(message_shape(&told(a)), message_shape(&told(b)), "seed={seed} {a} {b}");
    }
}

/// Forty digits of a hash, of which one at least is a number.
fn rng_hex(id: JobId) -> String {
    let mut rng = Rng::from_seed(id.raw());
    format!("{:016x}{:016x}1234567a", rng.next_u64(), rng.next_u64())
}
