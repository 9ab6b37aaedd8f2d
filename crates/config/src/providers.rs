//! providers: the providers of DNS that the program can speak with itself, and what each has to be told.

use crate::mistake::did_you_mean;
use crate::outside::Wrong;

/// A provider of DNS.
#[derive(Clone, Copy, Debug)]
pub struct Provider {
    /// Its word in the configuration.
    pub name: &'static str,
    /// What it is called, and what its settings are where that cannot be guessed.
    pub manual: &'static str,
    /// The settings that it cannot do without.
    pub needs: &'static [&'static str],
    /// Those that may be left out.
    pub takes: &'static [&'static str],
}

/// The settings that are shown to nobody.
pub const SECRETS: &[&str] = &["token", "key", "secret", "password"];

const fn provider(
    name: &'static str,
    manual: &'static str,
    needs: &'static [&'static str],
    takes: &'static [&'static str],
) -> Provider {
    Provider { name, manual, needs, takes }
}

/// All of them, by name.
pub const PROVIDERS: &[Provider] = &[
    provider("alidns", "Alibaba Cloud DNS", &["key", "secret"], &["region"]),
    provider("arvancloud", "ArvanCloud", &["key"], &[]),
    provider("autodns", "AutoDNS of InterNetX", &["user", "password"], &[]),
    provider(
        "azure",
        "Azure DNS: `user=` is the id of the client, `account=` that of the subscription",
        &["tenant", "user", "secret", "account", "group"],
        &[],
    ),
    provider("baiducloud", "Baidu Cloud DNS", &["key", "secret"], &[]),
    provider("bunny", "Bunny DNS", &["key"], &[]),
    provider("cloudflare", "Cloudflare: a token that may edit the zone's DNS", &["token"], &[]),
    provider("cloudns", "ClouDNS: `user=` is the auth-id", &["user", "password"], &[]),
    provider("constellix", "Constellix", &["key", "secret"], &[]),
    provider("desec", "deSEC", &["token"], &[]),
    provider("digitalocean", "DigitalOcean", &["token"], &[]),
    provider("dnsimple", "DNSimple", &["token", "account"], &[]),
    provider("dnsmadeeasy", "DNS Made Easy", &["key", "secret"], &[]),
    provider("domeneshop", "Domeneshop", &["token", "secret"], &[]),
    provider("dreamhost", "DreamHost", &["key"], &[]),
    provider("dynu", "Dynu", &["key"], &[]),
    provider("easydns", "easyDNS", &["token", "key"], &[]),
    provider("exoscale", "Exoscale", &["key", "secret"], &[]),
    provider("gandi", "Gandi LiveDNS: a personal access token", &["token"], &[]),
    provider("gcore", "Gcore", &["token"], &[]),
    provider("glesys", "GleSYS", &["user", "key"], &[]),
    provider("godaddy", "GoDaddy", &["key", "secret"], &[]),
    provider(
        "google",
        "Google Cloud DNS: `key=${file.service-account.json}`, `account=` is the project",
        &["key", "account"],
        &[],
    ),
    provider("hetzner", "Hetzner DNS", &["token"], &[]),
    provider("hostingde", "hosting.de", &["key"], &[]),
    provider("hostinger", "Hostinger", &["token"], &[]),
    provider("huaweicloud", "Huawei Cloud DNS", &["key", "secret", "region"], &[]),
    provider("infomaniak", "Infomaniak", &["token"], &[]),
    provider("inwx", "INWX", &["user", "password"], &[]),
    provider("ionos", "IONOS: `key=` is prefix and secret with a dot between", &["key"], &[]),
    provider("linode", "Linode", &["token"], &[]),
    provider("luadns", "LuaDNS", &["user", "token"], &[]),
    provider("mythicbeasts", "Mythic Beasts", &["user", "password"], &[]),
    provider("namecheap", "Namecheap", &["user", "key", "client-ip"], &[]),
    provider("namedotcom", "Name.com", &["user", "token"], &[]),
    provider("namesilo", "NameSilo", &["key"], &[]),
    provider("netcup", "netcup: `account=` is the customer's number", &["account", "key", "password"], &[]),
    provider("netlify", "Netlify", &["token"], &[]),
    provider("nifcloud", "Nifcloud", &["key", "secret"], &[]),
    provider("ns1", "NS1", &["key"], &[]),
    provider(
        "ovh",
        "OVH: `token=` is the consumer key, `region=` is `eu`, `us` or `ca`",
        &["key", "secret", "token"],
        &["region"],
    ),
    provider("porkbun", "Porkbun", &["key", "secret"], &[]),
    provider(
        "powerdns",
        "PowerDNS, its own API: `server=http://127.0.0.1:8081`",
        &["server", "key"],
        &["account"],
    ),
    provider(
        "rfc2136",
        "Any name server that takes signed updates (RFC 2136, RFC 8945), as BIND, Knot and PowerDNS do: `server=ADDRESS:PORT`, `key=` is \
         the name of the key, `secret=` the key in base64, `algorithm=` is `hmac-sha256` unless written",
        &["server", "key", "secret"],
        &["algorithm"],
    ),
    provider("route53", "AWS Route 53", &["key", "secret"], &["token", "region"]),
    provider("scaleway", "Scaleway", &["token"], &[]),
    provider("simplycom", "Simply.com", &["account", "key"], &[]),
    provider("spaceship", "Spaceship", &["key", "secret"], &[]),
    provider("tencentcloud", "Tencent Cloud DNSPod", &["key", "secret"], &["region"]),
    provider("transip", "TransIP: `key=${file.transip.pem}`", &["user", "key"], &[]),
    provider("ultradns", "UltraDNS", &["user", "password"], &["server"]),
    provider("vercel", "Vercel: `account=` is the team", &["token"], &["account"]),
    provider("vultr", "Vultr", &["key"], &[]),
    provider("websupport", "Websupport", &["key", "secret"], &[]),
    provider("zoneeu", "Zone.eu", &["user", "key"], &[]),
];

impl Provider {
    /// The one of this name.
    pub fn named(name: &str) -> Result<&'static Provider, Wrong> {
        PROVIDERS.iter().find(|provider| provider.name == name).ok_or_else(|| {
            let wrong = Wrong::new("is neither `exec` nor a provider of DNS that is known");
            let names = PROVIDERS.iter().map(|provider| provider.name).chain(["exec"]);
            let hint = did_you_mean(name, names).unwrap_or_else(|| {
                "all other providers can be reached by a program: `dns exec PROGRAM`".to_owned()
            });
            wrong.hint(hint)
        })
    }

    /// What is wrong with a setting of this name, if anything.
    pub fn refuses(&self, key: &str) -> Option<Wrong> {
        let takes = [self.needs, self.takes].concat();
        (!takes.contains(&key)).then(|| {
            let takes: Vec<String> = takes.iter().map(|key| format!("`{key}=`")).collect();
            Wrong::new(format!("`{}` takes no `{key}=`", self.name))
                .hint(format!("it takes {}", takes.join(", ")))
        })
    }

    /// The first setting that it cannot do without and that is not there.
    pub fn lacks(&self, has: impl Fn(&str) -> bool) -> Option<Wrong> {
        let missing = self.needs.iter().find(|key| !has(key))?;
        let usage: Vec<String> = self.needs.iter().map(|key| format!("{key}=…")).collect();
        Some(Wrong::new(format!("`{}` needs `{missing}=`", self.name)).hint(format!(
            "write `dns {} {}`",
            self.name,
            usage.join(" ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_described_and_no_provider_is_there_twice() {
        let form = crate::directives::FORMS.iter().find(|form| form.name == "dns").unwrap();
        for provider in PROVIDERS {
            for key in provider.needs.iter().chain(provider.takes) {
                assert!(form.params.iter().any(|param| param.name == *key), "{key} of {}", provider.name);
            }
        }
        assert!(PROVIDERS.is_sorted_by(|a, b| a.name < b.name));
    }
}
