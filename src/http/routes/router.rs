//! From the method and path of a request to its row.

use hyper::Method;

use super::{Route, Verb};
use crate::http::problem::Problem;

/// The rows that share a path, by verb, with their index in the table.
type Rows = Vec<(Verb, usize)>;

/// Finds the row for a request.
pub(in crate::http) struct Router {
    routes: &'static [Route],
    paths: matchit::Router<Rows>,
}

/// What was found for a request.
pub(in crate::http) struct Found<'p> {
    pub(in crate::http) index: usize,
    pub(in crate::http) route: &'static Route,
    pub(in crate::http) params: Vec<(&'p str, &'p str)>,
}

impl Router {
    pub(in crate::http) fn new(routes: &'static [Route]) -> Router {
        let mut by_path = std::collections::BTreeMap::<&str, Rows>::new();
        for (index, route) in routes.iter().enumerate() {
            by_path.entry(route.path).or_default().push((route.verb, index));
        }
        let mut paths = matchit::Router::new();
        for (path, rows) in by_path {
            paths.insert(path, rows).expect("BUG: two rows of the table have paths that clash");
        }
        Router { routes, paths }
    }

    /// The row of the table with this index.
    pub(in crate::http) fn route(&self, index: usize) -> Option<&'static Route> {
        self.routes.get(index)
    }

    /// The row for this method and path.
    pub(in crate::http) fn find<'p>(
        &'p self,
        method: &Method,
        path: &'p str,
    ) -> Result<Found<'p>, Problem> {
        let Ok(matched) = self.paths.at(path) else {
            let detail = "there is nothing at this path; /openapi.json lists what there is";
            return Err(Problem::new("unknown_path", detail));
        };
        let verb = Verb::of(method);
        let row = matched.value.iter().find(|(found, _)| Some(*found) == verb);
        let Some(&(_, index)) = row else {
            let methods = allowed(matched.value);
            let said: String = method.as_str().chars().take(32).collect();
            let detail = format!("{said} is not answered here; there are: {methods}");
            return Err(Problem::new("method_not_allowed", detail).allow(&methods));
        };
        let params = matched.params.iter().collect();
        Ok(Found { index, route: &self.routes[index], params })
    }
}

fn allowed(rows: &Rows) -> String {
    let mut methods: Vec<&str> = rows.iter().map(|(verb, _)| verb.as_str()).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.join(", ")
}
