//! The tests, by the rows of the table of figures (docs/reliability.md): one file each, and their list here.

mod t01_reload;
mod t02_storm;
mod t04_refused_reload;
mod t06_churn;
mod t07_upgrade;
mod t08_failed_upgrade;
mod t09_stop;
mod t11_killed;
mod t12_frozen;
mod t13_race;
mod t14_heads;
mod t15_bodies;
mod t16_early;
mod t17_refused;
mod t18_all_down;
mod t19_isolation;
mod t20_half_open;
mod t21_names;
mod t22_storm;
mod t24_overload;
mod t25_memory;
mod t26_descriptors;
mod t27_slow_pack;
mod t30_fairness;
mod t35_stalled_log;

use crate::stage::Test;

/// All of them, in the order of the table.
pub const LIST: &[Test] = &[
    t01_reload::TEST,
    t02_storm::TEST,
    t04_refused_reload::TEST,
    t06_churn::TEST,
    t07_upgrade::TEST,
    t08_failed_upgrade::TEST,
    t09_stop::TEST,
    t11_killed::TEST,
    t12_frozen::TEST,
    t12_frozen::UNBOUND,
    t13_race::TEST,
    t14_heads::TEST,
    t15_bodies::TEST,
    t16_early::TEST,
    t17_refused::TEST,
    t18_all_down::TEST,
    t19_isolation::TEST,
    t20_half_open::TEST,
    t21_names::TEST,
    t22_storm::TEST,
    t24_overload::TEST,
    t24_overload::SERVERS,
    t25_memory::TEST,
    t26_descriptors::TEST,
    t27_slow_pack::TEST,
    t30_fairness::TEST,
    t35_stalled_log::TEST,
];
