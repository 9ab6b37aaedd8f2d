//! Chain: the filters of one route, run in order on the way in and in reverse on the way back.

use super::{Filter, Flow, LIST};
use crate::context::{Answer, Context, Question};
use crate::plan::Directive;
use portunus_message::{Error, Request, Response};
use std::time::Duration;

/// The filters of one route. It waits for nothing itself: whoever runs it gets a [`Step`] and comes back.
#[derive(Default)]
pub struct Chain {
    filters: Box<[Box<dyn Filter>]>,
}

/// What comes next for a request on its way through a chain. `ran` is how many filters have seen the request, and so
/// shall see the answer.
#[derive(Debug)]
pub enum Step {
    /// All filters have let it through.
    Done,
    /// Find this out, then call [`Chain::answered`] with `at`.
    Ask {
        /// Which filter asks.
        at: usize,
        /// What it wants to know.
        question: Question,
    },
    /// Wait so long, then call [`Chain::request`] from `at` on.
    Wait {
        /// Which filter is next.
        at: usize,
        /// How long.
        time: Duration,
    },
    /// Send this; the upstream is not asked.
    Answer {
        /// How many filters have seen the request.
        ran: usize,
        /// What to send.
        response: Box<Response>,
    },
    /// End the exchange with this.
    Fail {
        /// How many filters have seen the request.
        ran: usize,
        /// Why.
        error: Error,
    },
}

impl Chain {
    /// Builds the filters of a route, in order.
    pub fn compile(filters: &[Directive]) -> Result<Chain, String> {
        let build = |directive: &Directive| {
            let name = &directive.name;
            let entry = LIST.iter().find(|entry| entry.name == name);
            let entry = entry.ok_or_else(|| format!("there is no filter `{name}`"))?;
            (entry.build)(&directive.args).map_err(|wrong| format!("{name}: {}", wrong.reason))
        };
        filters.iter().map(build).collect::<Result<_, _>>().map(|filters| Chain { filters })
    }

    /// How many filters there are.
    pub fn len(&self) -> usize {
        self.filters.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Runs the filters from the one at `from` on (0 for a new request).
    pub fn request(&self, from: usize, request: &mut Request, cx: &mut Context<'_>) -> Step {
        for (at, filter) in self.filters.iter().enumerate().skip(from) {
            let flow = filter.request(request, cx);
            if let Some(step) = step(at, flow) {
                return step;
            }
        }
        Step::Done
    }

    /// Gives the filter at `at` the answer to its question and goes on with those after it.
    pub fn answered(&self, at: usize, answer: Answer, request: &mut Request, cx: &mut Context<'_>) -> Step {
        let Some(filter) = self.filters.get(at) else { return Step::Done };
        let flow = filter.answered(answer, request, cx);
        step(at, flow).unwrap_or_else(|| self.request(at + 1, request, cx))
    }

    /// Shows the answer to the first `ran` filters, the last of them first.
    pub fn response(&self, ran: usize, response: &mut Response, request: &Request, cx: &mut Context<'_>) {
        for filter in self.filters.iter().take(ran).rev() {
            filter.response(response, request, cx);
        }
    }

    /// What each filter does, in order, for `explain`.
    pub fn describe(&self) -> impl Iterator<Item = String> {
        self.filters.iter().map(|filter| filter.describe())
    }
}

/// What the flow of the filter at `at` means for the chain; `None`: go on with the next.
fn step(at: usize, flow: Flow) -> Option<Step> {
    let ran = at + 1;
    match flow {
        Flow::Next => None,
        Flow::Ask(question) => Some(Step::Ask { at, question }),
        Flow::Wait(time) => Some(Step::Wait { at: ran, time }),
        Flow::Answer(response) => Some(Step::Answer { ran, response }),
        Flow::Fail(error) => Some(Step::Fail { ran, error }),
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.describe()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Stage;
    use super::*;
    use portunus_message::{Crime, FieldName, FieldValue, Phase, Status};

    struct Mark(&'static str, fn() -> Flow);

    impl Mark {
        fn leave(&self, fields: &mut portunus_message::Fields) {
            fields.add(&FieldName::new("Mark").unwrap(), FieldValue::new(self.0.as_bytes()).unwrap());
        }
    }

    impl Filter for Mark {
        fn request(&self, request: &mut Request, _: &mut Context<'_>) -> Flow {
            self.leave(&mut request.fields);
            self.1()
        }

        fn answered(&self, answer: Answer, request: &mut Request, _: &mut Context<'_>) -> Flow {
            self.leave(&mut request.fields);
            match answer {
                Answer::Yes => Flow::Next,
                _ => Flow::Fail(Error::client(Phase::Filter, Crime::Refused)),
            }
        }

        fn response(&self, response: &mut Response, _: &Request, _: &mut Context<'_>) {
            self.leave(&mut response.fields);
        }

        fn describe(&self) -> String {
            self.0.to_owned()
        }
    }

    fn ask() -> Flow {
        Flow::Ask(Question::Password { hash: "".into(), password: Vec::new() })
    }

    fn chain(filters: Vec<Mark>) -> Chain {
        Chain { filters: filters.into_iter().map(|mark| Box::new(mark) as Box<dyn Filter>).collect() }
    }

    fn marks(fields: &portunus_message::Fields) -> Vec<String> {
        fields.iter().map(|(_, _, value)| String::from_utf8(value.to_vec()).unwrap()).collect()
    }

    #[test]
    fn filters_run_in_order_and_back_in_reverse() {
        let chain = chain(vec![Mark("a", || Flow::Next), Mark("b", || Flow::Next)]);
        let mut stage = Stage::get("/");
        assert!(matches!(stage.with(|request, cx| chain.request(0, request, cx)), Step::Done));
        assert_eq!(marks(&stage.request.fields), ["a", "b"]);
        let mut response = Response::default();
        stage.with(|request, cx| chain.response(chain.len(), &mut response, request, cx));
        assert_eq!(marks(&response.fields), ["b", "a"]);
        assert_eq!(format!("{chain:?}"), r#"["a", "b"]"#);
    }

    #[test]
    fn a_question_stops_the_chain_and_its_answer_goes_on() {
        let chain = chain(vec![
            Mark("a", || Flow::Next),
            Mark("b", ask),
            Mark("c", || Flow::Wait(Duration::from_secs(1))),
            Mark("d", || Flow::Answer(Box::new(Response::new(Status::NO_CONTENT)))),
            Mark("e", || Flow::Next),
        ]);
        let mut stage = Stage::get("/");
        assert!(matches!(stage.with(|r, cx| chain.request(0, r, cx)), Step::Ask { at: 1, .. }));
        assert!(matches!(
            stage.with(|r, cx| chain.answered(1, Answer::Yes, r, cx)),
            Step::Wait { at: 3, .. }
        ));
        assert!(matches!(stage.with(|r, cx| chain.request(3, r, cx)), Step::Answer { ran: 4, .. }));
        assert_eq!(marks(&stage.request.fields), ["a", "b", "b", "c", "d"]);
        let step = stage.with(|r, cx| chain.answered(1, Answer::Unknown, r, cx));
        assert!(matches!(step, Step::Fail { ran: 2, .. }));
    }

    #[test]
    fn a_mistake_names_the_filter() {
        let directive = |name: &str| Directive { name: name.to_owned(), args: Default::default() };
        assert_eq!(Chain::compile(&[directive("nope")]).unwrap_err(), "there is no filter `nope`");
        assert_eq!(Chain::compile(&[directive("body-limit")]).unwrap_err(), "body-limit: needs `size`");
        assert!(Chain::compile(&[]).unwrap().is_empty());
    }
}
