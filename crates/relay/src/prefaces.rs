//! Prefaces: where connections begin with a PROXY header, and who is believed to send one.

use crate::filter::forwarded::Trust;
use crate::plan::{CompileMistake, Listen, Plan, Prefaced};
use std::collections::HashMap;
use std::net::IpAddr;

/// Where connections begin with a PROXY header.
#[derive(Debug, Default)]
pub struct Prefaces {
    /// Sorted by where.
    list: Vec<(Listen, Trust)>,
}

impl Prefaces {
    /// Those of `plan`. Sites that listen at the same address have to agree.
    pub fn compile(plan: &Plan) -> Result<Prefaces, CompileMistake> {
        let all = || plan.sites.iter().flat_map(|site| site.prefaced.iter());
        let mut first: HashMap<&Listen, &Prefaced> = HashMap::new();
        for one in all() {
            first.entry(&one.listen).or_insert(one);
        }
        for site in &plan.sites {
            let own = |listen: &Listen| site.prefaced.iter().find(|one| one.listen == *listen);
            let other = |listen: &Listen| first.get(listen).copied();
            if let Some(listen) = site.listen.iter().find(|listen| own(listen) != other(listen)) {
                let place =
                    format!("site {}", site.names.first().map(ToString::to_string).unwrap_or_default());
                let reason = format!("not all sites at {listen} agree about the PROXY protocol");
                return Err(CompileMistake { place, reason });
            }
        }
        let trusted = &plan.settings.trusted_proxies;
        let trust = |one: &Prefaced| Trust::new(if one.from.is_empty() { trusted } else { &one.from });
        let mut list: Vec<_> = all().map(|one| (one.listen.clone(), trust(one))).collect();
        list.sort_by(|(left, _), (right, _)| left.cmp(right));
        list.dedup_by(|(left, _), (right, _)| left == right);
        Ok(Prefaces { list })
    }

    /// Whether connections that come by `listen` begin with a header; and if so, whether one from `client` is to be believed.
    pub fn believes(&self, listen: &Listen, client: IpAddr) -> Option<bool> {
        if self.list.is_empty() {
            return None;
        }
        let at = self.list.binary_search_by(|(known, _)| known.cmp(listen)).ok()?;
        let (listen, trust) = self.list.get(at)?;
        // Who may open a unix socket has been decided by whoever owns it.
        Some(matches!(listen, Listen::Unix(_)) || trust.has(client.to_canonical()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{HostPattern, SitePlan};

    fn site(listen: &str, from: Option<&[&str]>) -> SitePlan {
        let listen = match listen.strip_prefix("unix:") {
            Some(path) => Listen::Unix(path.into()),
            None => Listen::Tcp(listen.parse().unwrap()),
        };
        let from = from.map(|from| from.iter().map(|network| network.parse().unwrap()).collect());
        let prefaced = from.map(|from| Prefaced { listen: listen.clone(), from });
        SitePlan {
            names: vec![HostPattern::Any],
            listen: vec![listen],
            prefaced: prefaced.into_iter().collect(),
            tls: None,
            routes: Vec::new(),
        }
    }

    #[test]
    fn a_hundred_thousand_sites_at_one_address_do_not_look_at_each_other() {
        let mut plan = Plan { sites: vec![site("0.0.0.0:1", None); 100_000], ..Plan::default() };
        Prefaces::compile(&plan).unwrap();
        plan.sites.push(site("0.0.0.0:1", Some(&[])));
        assert!(Prefaces::compile(&plan).is_err());
    }

    #[test]
    fn a47_only_who_is_listed_is_believed() {
        let mut plan = Plan::default();
        plan.settings.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        plan.sites = vec![
            site("0.0.0.0:1", Some(&["192.0.2.0/24"])),
            site("0.0.0.0:2", Some(&[])),
            site("0.0.0.0:3", None),
            site("unix:/x", Some(&[])),
        ];
        let prefaces = Prefaces::compile(&plan).unwrap();
        let ask =
            |at: usize, client: &str| prefaces.believes(&plan.sites[at].listen[0], client.parse().unwrap());
        assert_eq!(ask(0, "192.0.2.9"), Some(true));
        assert_eq!(ask(0, "::ffff:192.0.2.9"), Some(true));
        assert_eq!(ask(0, "10.0.0.1"), Some(false)); // whose fields are believed is another question
        assert_eq!(ask(1, "10.0.0.1"), Some(true));
        assert_eq!(ask(2, "10.0.0.1"), None);
        assert_eq!(ask(3, "127.0.0.1"), Some(true));
    }

    #[test]
    fn sites_at_one_address_have_to_agree() {
        let compile = |sites: Vec<SitePlan>| Prefaces::compile(&Plan { sites, ..Plan::default() });
        let (one, two) = (site("0.0.0.0:1", Some(&["10.0.0.0/8"])), site("0.0.0.0:1", None));
        assert!(compile(vec![one.clone(), one.clone()]).is_ok());
        let mistake = compile(vec![two.clone(), one.clone()]).unwrap_err();
        assert_eq!(mistake.reason, "not all sites at 0.0.0.0:1 agree about the PROXY protocol");
        assert!(compile(vec![one.clone(), two]).is_err());
        assert!(compile(vec![one, site("0.0.0.0:1", Some(&["11.0.0.0/8"]))]).is_err());
    }
}
