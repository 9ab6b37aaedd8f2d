//! The language as a whole: what loads, what does not, and what is said about it.

use super::*;
use portunus_relay::entry::{ArgMistake, Entry, Kind, Param, Place};
use portunus_relay::filter::Filter;
use portunus_relay::hosts::{HostId, HostSet, Hosts};
use portunus_relay::pick::{Key, Pick};
use portunus_relay::plan::{Args, HostPattern, SitePlan};

struct Nothing;

impl Filter for Nothing {
    fn describe(&self) -> String {
        String::new()
    }
}

impl Pick for Nothing {
    fn pick(&self, _: &Hosts, _: &Key<'_>, _: &HostSet) -> Option<HostId> {
        None
    }
}

const fn word(name: &'static str, kind: Kind) -> Param {
    Param { name, place: Place::Word, kind, manual: "A word." }
}

fn fine(_: &Args) -> Result<Box<dyn Filter>, ArgMistake> {
    Ok(Box::new(Nothing))
}

fn status(args: &Args) -> Result<Box<dyn Filter>, ArgMistake> {
    match args.words.first().and_then(|word| word.value.parse::<u16>().ok()) {
        Some(200..=599) => Ok(Box::new(Nothing)),
        _ => Err(ArgMistake::word(0, "is not a status").hint("write a number from 200 to 599")),
    }
}

/// Filters and policies for tests of what surrounds them.
pub const TEST: Registry = Registry {
    filters: &[
        Entry {
            name: "answer",
            manual: "Answers.",
            example: "answer 200",
            params: &[
                word("status", Kind::Number),
                Param { place: Place::OptionalWord, ..word("body", Kind::Text) },
            ],
            answers: true,
            build: status,
        },
        Entry {
            name: "mark",
            manual: "Marks.",
            example: "mark X-A b",
            params: &[
                word("name", Kind::FieldName),
                word("value", Kind::Template),
                Param { place: Place::Option, ..word("after", Kind::Duration) },
            ],
            answers: false,
            build: fine,
        },
    ],
    policies: &[
        Entry {
            name: "round-robin",
            manual: "In turn.",
            example: "balance round-robin",
            params: &[],
            answers: false,
            build: |_| Ok(Box::new(Nothing)),
        },
        Entry {
            name: "hash",
            manual: "By a key.",
            example: "balance hash ${client.ip}",
            params: &[word("key", Kind::Template)],
            answers: false,
            build: |_| Ok(Box::new(Nothing)),
        },
    ],
};

pub fn load_test(text: &str) -> Result<Loaded, Mistakes> {
    let variable = |name: &str| match name {
        "TOKEN" => Some("0123456789".to_owned()),
        "STICKY_KEY" => Some("0123456789abcdef".to_owned()),
        _ => None,
    };
    load_into("test.conf", text, TEST, Outside::new(Environment { variable: &variable, has_providers: true }))
}

#[test]
fn the_smallest_configurations_load() {
    for text in [
        "site :8080 { proxy 127.0.0.1:3000 127.0.0.1:3001 }",
        "workers 1\npool origin {\n server 127.0.0.1:9000\n keep-alive idle=512\n}\nsite * { listen 127.0.0.1:1; proxy origin }\nsite * { listen 127.0.0.1:2; proxy 127.0.0.1:9000 keep-alive=off }\nsite * {\n listen 127.0.0.1:3\n route /svc1/* { proxy origin }\n route /svc2/* { proxy origin }\n}",
    ] {
        match load_test(text) {
            Ok(loaded) => assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings),
            Err(mistakes) => panic!("{mistakes}"),
        }
    }
}

#[track_caller]
fn plan(text: &str) -> Plan {
    match load_test(text) {
        Ok(loaded) => loaded.plan.as_ref().clone(),
        Err(mistakes) => panic!("{mistakes}"),
    }
}

#[track_caller]
fn reasons(text: &str) -> Vec<String> {
    let mistakes = load_test(text).err().unwrap_or_default();
    mistakes.0.into_iter().map(|mistake| mistake.reason).collect()
}

#[test]
fn every_example_of_the_manual_loads() {
    use directives::{FORMS, Scope};
    for form in FORMS.iter().filter(|form| !matches!(form.name, "include" | "tls" | "client-auth")) {
        let text = match form.scopes.first() {
            Some(Scope::Acme) => format!("acme {{\n{}\n}}\nsite :79 {{ answer 200 }}", form.example),
            Some(Scope::Pool) => {
                format!("pool a {{\nserver 10.0.0.9:80\n{}\n}}\nsite :80 {{ proxy a }}", form.example)
            }
            Some(Scope::Site) => {
                format!("site :80 {{\nmark X-A b\n{}\nroute /y {{ answer 200 }}\n}}", form.example)
            }
            _ => format!("{}\nsite :79 {{ answer 200 }}", form.example),
        };
        // The example of `balance` names a policy that only the data plane has.
        if form.name != "balance" && !form.example.contains("balance ") {
            plan(&text.replace("balance=random-two", ""));
        }
        assert!(format("example", form.example).is_ok(), "{}", form.name);
    }
}

#[test]
fn the_filters_of_a_site_hold_for_its_routes() {
    let plan = plan(
        "site http://a.test {\n mark X-A 1\n answer 200\n mark X-B 2\n route /x { mark X-C 3; proxy :1 }\n limits { first-byte 5s }\n}",
    );
    let names = |at: usize| {
        let route = &plan.sites[0].routes[at];
        route.filters.iter().map(|filter| filter.args.words[0].value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(0), ["X-A", "X-B", "X-C"]);
    assert_eq!(names(1), ["X-A", "200", "X-B"]);
    let route = &plan.sites[0].routes[0];
    assert_eq!(route.name, "a.test/x");
    assert_eq!(route.limits.first_byte.as_secs(), 5);
    assert_eq!(plan.sites[0].routes[1].name, "a.test/*");
    assert_eq!(plan.sites[0].listen[0].to_string(), "[::]:80");
}

#[test]
fn defaults_hold_wherever_they_are_written() {
    let plan = plan(
        "site :80 { proxy :1 }\npool a { server :2; connect timeout=9s }\nsite :81 { proxy a }\n\
         defaults { pool { connect timeout=7s; retry off }; site { mark X-A b; limits { body-bytes 1KiB } } }",
    );
    let timeouts: Vec<u64> = plan.pools.iter().map(|pool| pool.connect_timeout.as_secs()).collect();
    assert_eq!(timeouts, [9, 7]);
    assert!(plan.pools.iter().all(|pool| pool.retry.tries == 1));
    let routes = plan.sites.iter().flat_map(|site| &site.routes);
    assert!(routes.clone().all(|route| route.limits.body_bytes == 1024 && route.filters.len() == 1));
}

#[test]
fn the_same_targets_share_a_pool() {
    let plan = plan(
        "site :80 {\n route /a { proxy :1 :2 }\n route /b { proxy :1 :2 }\n route /c { proxy :1 :2 keep-alive=off }\n proxy :1 weight=3\n proxy :2\n}",
    );
    let names: Vec<&str> = plan.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:1 127.0.0.1:2", "127.0.0.1:1 127.0.0.1:2#2"]);
    assert_eq!(plan.sites[0].routes[3].forward[0].weight, 3);
}

#[test]
fn a_name_alone_has_https_with_a_certificate_and_is_led_there_from_port_80() {
    let shown = |plan: &Plan| {
        let site = |site: &SitePlan| {
            let tls = site.tls.as_ref();
            let automatic = tls.into_iter().flat_map(|tls| &tls.automatic);
            let wanted: Vec<_> = automatic.map(|one| format!("{} {:?}", one.name, one.by)).collect();
            let listen: Vec<_> = site.listen.iter().map(ToString::to_string).collect();
            format!("{} {}", listen.join(" "), wanted.join(" "))
        };
        plan.sites.iter().map(site).collect::<Vec<_>>()
    };
    let all = plan("site example.com localhost { proxy :1 }\nsite http://localhost { proxy :1 }");
    assert_eq!(shown(&all), ["[::]:443 example.com Acme localhost Internal", "[::]:80 ", "[::]:80 "]);
    let redirect = &all.sites[2];
    assert_eq!(redirect.names, [HostPattern::Exact("example.com".into())], "the other one has its own");
    let words: Vec<_> = redirect.routes[0].filters[0].args.words.iter().map(|word| &*word.value).collect();
    assert_eq!(words, ["308", "https://${host}${uri}"]);
    for (text, sites) in [
        ("site example.com:8443 { proxy :1 }", &["[::]:8443 example.com Acme"][..]),
        ("site https://example.com { listen :8443; proxy :1 }", &["[::]:8443 example.com Acme"]),
        ("site example.com { listen :1 tls; listen :2; proxy :1 }", &["[::]:1 [::]:2 example.com Acme"]),
        ("site 10.0.0.1 { tls auto; proxy :1 }", &["[::]:443 10.0.0.1 Acme", "[::]:80 "]),
        (
            "site :1 { tls internal; proxy :1 }",
            &["[::]:1 localhost Internal 127.0.0.1 Internal [::1] Internal"],
        ),
        ("site http://example.com { proxy :1 }", &["[::]:80 "]),
        ("site example.com { listen :80; proxy :1 }", &["[::]:80 "]),
        (
            "acme { dns exec /bin/hook }\nsite *.example.com { proxy :1 }",
            &["[::]:443 *.example.com Acme", "[::]:80 "],
        ),
    ] {
        assert_eq!(shown(&plan(text)), sites, "{text}");
        let printed = adapt(&plan(text));
        assert_eq!(printed.contains("\"redirect\""), sites.len() > 1);
    }
}

#[test]
fn a_program_without_providers_of_dns_says_how_to_get_them() {
    let environment = Environment { variable: &|_| None, has_providers: false };
    let load = |text: &str| load_text("test.conf", text, &environment).map(|loaded| adapt(&loaded.plan));
    let said = load("acme { dns cloudflare token=x }\nsite a.example { proxy :1 }").unwrap_err().to_string();
    assert!(
        said.contains("built without providers of DNS") && said.contains("--features acme-dns"),
        "{said}"
    );
    let all = load_test("acme { dns cloudflare token=x }\nsite a.example { proxy :1 }").unwrap();
    let said = load(&adapt(&all.plan)).unwrap_err().to_string();
    assert!(said.contains("built without providers of DNS"), "{said}");
    let again = load_test(&adapt(&all.plan)).unwrap_err().to_string();
    assert!(again.contains("a secret that was not printed"), "{again}");
    load("acme { dns exec /bin/hook }\nsite a.example { proxy :1 }").unwrap();
}

#[test]
fn a_name_without_tls_wants_to_say_so() {
    assert_eq!(reasons("site * { proxy :1 }"), ["`*` does not say where to listen"]);
    let plan = plan("site Example.com *.example.com { listen 127.0.0.1:0; listen unix:/run/x; proxy :1 }");
    assert_eq!(
        plan.sites[0].names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["example.com", "*.example.com"]
    );
    assert_eq!(plan.sites[0].listen.len(), 2);
}

#[test]
fn secrets_are_filled_in_but_not_printed() {
    let text =
        "admin 127.0.0.1:9000 token=${env.TOKEN}\nsite :80 { mark X-Key \"k ${env.TOKEN}\"; proxy :1 }";
    let plan = plan(text);
    let printed = adapt(&plan);
    assert!(!printed.contains("0123456789") && printed.contains("k ${env.TOKEN}"));
    assert_eq!(plan.sites[0].routes[0].filters[0].args.words[1].value, "k 0123456789");
    // What is printed can be loaded, and means the same.
    assert_eq!(*load_test(&printed).unwrap().plan, plan);
}

#[test]
fn mistakes_do_not_tell_what_came_from_outside() {
    for text in [
        "site :80 { proxy ${env.TOKEN} }",
        "site :80 { proxy ${env.TOKEN}:port }",
        "site :80 { tls ${env.TOKEN} ${env.TOKEN}; proxy :1 }",
        "pool p { server :1; tls ca=${env.TOKEN} }\nsite :80 { proxy p }",
        "include ${env.TOKEN}\nsite :80 { proxy :1 }",
        "log level ${env.TOKEN}\nsite :80 { proxy :1 }",
    ] {
        let mistakes = load_test(text).unwrap_err();
        let told = format!("{mistakes} {:?} {}", mistakes.0, mistakes.to_json());
        assert!(!told.contains("0123456789") && told.contains("${env.TOKEN}"), "{told}");
    }
}

#[test]
fn a_plan_in_json_is_checked_like_a_text() {
    let good =
        adapt(&plan("pool a { server :1 }\nsite :80 { route /x { proxy a }; mark X-A b; answer 200 }"));
    assert_eq!(adapt(&load_test(&good).unwrap().plan), good);
    for (from, to, reason) in [
        ("\"pool\": \"a\"", "\"pool\": \"b\"", "sites[0].routes[0]: there is no pool `b`"),
        ("\"mark\"", "\"mork\"", "sites[0].routes[0]: there is no filter `mork`"),
        ("\"200\"", "\"2000\"", "sites[0].routes[1]: `2000` is not a status"),
        (
            "\"exact\": \"/x\"",
            "\"exact\": \"/x/../y\"",
            "sites[0].routes[0]: the path is not in the normal form",
        ),
        ("\"watch\"", "\"wach\"", "unknown field `wach`"),
        ("\"trusted-proxies\": []", "\"trusted-proxies\": [\"::/0\"]", "settings: `::/0` cannot be trusted"),
        ("\"header-bytes\": 32768", "\"header-bytes\": 0", "settings: `header-bytes` cannot be 0"),
        ("\"streams\": 100", "\"streams\": 5000000000", "settings: `streams` is too large"),
        ("\"weight\": 1", "\"weight\": 70000", "pools[0]: the weight of `127.0.0.1:1` is more than 65535"),
        ("\"weight\": 1", "\"weight\": 70000", "sites[0].routes[0]: the weight of a `forward` is more"),
        ("\"grace\": \"30s\"", "\"grace\": \"30\"", "`30` is not a duration"),
    ] {
        assert!(good.contains(from), "{from}");
        let reasons = reasons(&good.replace(from, to));
        assert!(reasons.iter().any(|found| found.starts_with(reason)), "{reasons:?}");
    }
    let mistakes = load_test("{\n  \"settings\": { \"wach\": true }\n}").unwrap_err();
    assert_eq!((mistakes.0[0].line, mistakes.0[0].hint.as_deref()), (2, Some("did you mean `watch`?")));
    assert!(load_test("{").is_err());
    let mut plan: serde_json::Value = serde_json::from_str(&good).unwrap();
    plan["sites"][0]["routes"] = serde_json::json!([]);
    plan["settings"] = serde_json::json!([1]);
    assert_eq!(
        reasons(&plan.to_string()),
        [
            "settings: it is a list, and has to be an object",
            "sites[0]: this site has no route, so nothing in it answers"
        ]
    );
    let admin = adapt(&self::plan("admin unix:/a\nsite * { listen unix:/b; answer 200 }"));
    let reason = "settings: the admin API cannot be at unix:/b: site `*` listens at unix:/b";
    assert_eq!(reasons(&admin.replace("\"/a\"", "\"/b\"")), [reason]);
}

#[test]
fn without_a_site_nothing_is_a_configuration() {
    for text in ["", "\n", "# nothing\n", "workers 2\n", "{}", "{\"sites\":[]}", "include nowhere*.conf"] {
        assert_eq!(reasons(text), ["there is no `site`, so nothing would be served"], "{text}");
    }
}

#[test]
fn a_pipe_is_read_only_where_it_is_the_configuration_itself() {
    let folder = std::env::temp_dir().join(format!("portunus-pipes-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (pipe, main) = (folder.join("ff"), folder.join("main.conf"));
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    let environment = Environment { variable: &|_| None, has_providers: true };
    let said = |path: &Path| load_again(path, &environment).err().unwrap_or_default().to_string();
    for text in [
        "include ff",
        "site :80 { tls ff ff; respond 200 }",
        "site :80 { basic-auth file=ff; respond 200 }",
        "site :80 { respond 200 ${file.ff} }",
    ] {
        std::fs::write(&main, text).unwrap();
        let said = said(&main);
        assert!(said.contains("it is a pipe, not a regular file") && said.contains("main.conf:1:"), "{said}");
    }
    assert!(said(&pipe).contains("it is a pipe, not a regular file"));
    // To write to it, somebody has to have it open for reading.
    let reader = opened::open_stream(&pipe).unwrap();
    let mut writer = std::fs::File::options().write(true).open(&pipe).unwrap();
    let late = std::thread::spawn(move || {
        std::thread::yield_now();
        std::io::Write::write_all(&mut writer, b"site :80 { respond 200 }").unwrap();
    });
    let plan = load(&pipe, &environment).unwrap().plan;
    assert_eq!(plan.sites.len(), 1);
    late.join().unwrap();
    drop(reader);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_schema_names_every_part() {
    let schema = schema();
    for name in ["trusted-proxies", "header-bytes", "connect-timeout", "keep-alive"] {
        assert!(schema.contains(&format!("\"{name}\"")), "{name}");
    }
}

#[test]
fn the_reference_is_made_of_the_lists() {
    let pages = reference();
    let page = |name: &str| pages.iter().find(|(file, _)| file == name).map_or("", |(_, text)| text.as_str());
    assert!(directives::FORMS.iter().all(|form| {
        ["settings.md", "pool.md", "site-and-route.md"]
            .iter()
            .any(|file| page(file).contains(&format!("\n## {}\n", form.name)))
    }));
    assert!(page("limits.md").contains("| `header-bytes` | 32KiB |  |"));
    assert!(page("templates.md").contains("`${client.ip}`"));
}

#[test]
fn many_mistakes_are_told_at_once() {
    let text =
        "workres 2\npool a {\n sevrer :1\n}\nsite :80 {\n route /x { proxy b }\n route x { proxy a }\n}\n";
    assert_eq!(
        reasons(text),
        [
            "there is no directive `workres`",
            "pool `a` has no server",
            "there is no directive `sevrer`",
            "there is no pool `b`",
            "`x` is not a path; a path begins with `/`",
        ]
    );
}

/// Ten thousand routes, half of them with a pool of their own.
fn large(routes: usize) -> String {
    let mut text = String::from("pool origin { server 10.0.0.1:80 }\n");
    for at in 0..routes / 2 {
        text.push_str(&format!(
            "pool p{at} {{ server 10.0.{}.{}:80; server app{at}:80 }}\n",
            at / 256,
            at % 256
        ));
    }
    text.push_str("site :80 {\n    proxy origin\n");
    for at in 0..routes {
        let target =
            if at % 2 == 0 { format!("p{}", at / 2) } else { format!("127.0.0.1:{}", at % 60000 + 1) };
        text.push_str(&format!("    route /svc{at}/* method=GET header.x-version={at} {{ mark X-A \"b {at}\"; proxy {target} }}\n"));
    }
    text.push_str("}\n");
    text
}

#[test]
fn ten_thousand_routes_and_ten_megabytes_load() {
    let started = std::time::Instant::now();
    let plan = plan(&large(10_000));
    println!("10,000 routes: {:?}", started.elapsed());
    assert_eq!((plan.pools.len(), plan.sites[0].routes.len()), (10_001, 10_001));

    let mut text = large(1000);
    let line = "# what follows is nothing but a comment, and takes room\n";
    let pool = |at: usize| {
        format!("pool q{at} {{\n    server 10.0.0.1:{}\n    balance round-robin\n}}\n{line}", at % 60000 + 1)
    };
    let mut at = 0;
    while text.len() < 10 << 20 {
        text.push_str(&pool(at));
        at += 1;
    }
    let started = std::time::Instant::now();
    let loaded = load_test(&text).unwrap();
    println!("{} bytes: {:?}", text.len(), started.elapsed());
    assert_eq!(loaded.plan.pools.len(), 1001 + at);
    let started = std::time::Instant::now();
    assert!(format("large", &text).unwrap().len() > 10 << 20);
    println!("formatted: {:?}", started.elapsed());
}

#[test]
fn every_example_of_a_filter_and_a_policy_loads() {
    let none = |_: &str| None;
    let environment = Environment { variable: &none, has_providers: true };
    let load = |text: String| {
        if let Err(mistakes) = load_text("example.conf", &text, &environment) {
            panic!("{mistakes}");
        }
    };
    for entry in Registry::default().filters {
        load(format!("site :80 {{\n route /x {{\n{}\nproxy :1\n}}\n}}", entry.example));
    }
    for entry in Registry::default().policies {
        let example = entry.example.trim_start_matches("balance ");
        load(format!("pool a {{\nserver :1\nbalance {example}\n}}\nsite :80 {{ proxy a }}"));
    }
    for form in directives::FORMS.iter().filter(|form| form.example.contains("balance")) {
        match form.name {
            "balance" => load(format!("pool a {{\nserver :1\n{}\n}}\nsite :80 {{ proxy a }}", form.example)),
            "proxy" => load(format!("site :80 {{ {} }}", form.example)),
            _ => load(format!("{}\nsite :79 {{ respond 200 }}", form.example)),
        }
    }
}

#[test]
fn floods_of_mistakes_are_bounded() {
    let mut many = String::from("site :80 {\n");
    for at in 0..20_000 {
        many.push_str(&format!("route /a{at} {{ proxy nowhere{at} }}\n"));
    }
    many.push_str("}\n");
    for at in 0..5000 {
        many.push_str(&format!("pool p{at} {{ server :1 }}\n"));
    }
    for text in [
        many,
        "\u{1}".repeat(1 << 18),
        "\"\n".repeat(1 << 17),
        "{".repeat(1 << 18),
        "}".repeat(1 << 18),
        "a {} ".repeat(1 << 17),
        "${".repeat(1 << 17),
        "a=b ".repeat(1 << 18),
        format!("site :80 {{ route /x {} {{ proxy :1 }} }}", "header.x=1 ".repeat(1 << 15)),
        format!("site {} {{ proxy :1 }}", "http://a.test ".repeat(1 << 15)),
        format!("site :80 {{ proxy {} }}", ":1 ".repeat(1 << 15)),
        format!("trusted-proxies {}", "x ".repeat(1 << 15)),
        format!("[{}", "[".repeat(1 << 18)),
        format!("{{\"a\":{}", "[".repeat(1 << 18)),
    ] {
        let started = std::time::Instant::now();
        let mistakes = load_test(&text).err().unwrap_or_default();
        println!("{:?} for {} mistakes of {:.20}", started.elapsed(), mistakes.0.len(), text);
        assert!(mistakes.0.len() <= findings::MISTAKES_MAX + 1);
        assert!(mistakes.to_string().len() < 1 << 20);
    }
}

#[test]
fn ten_megabytes_of_routes_load() {
    let mut text = String::from("pool origin { server 10.0.0.1:80 }\nsite :80 {\n");
    let mut count = 0;
    while text.len() < 10 << 20 {
        text.push_str(&format!("    route /svc{count}/* {{ proxy origin }}\n"));
        count += 1;
    }
    text.push_str("}\n");
    let started = std::time::Instant::now();
    let plan = plan(&text);
    println!("{count} routes in {} bytes: {:?}", text.len(), started.elapsed());
    assert_eq!(plan.sites[0].routes.len(), count);
}
