//! How deep a file nests, seen before anything is built of it.
//!
//! The parser bounds braces within braces, and dots in a key, at 80 each. Together they nest 6,400 deep,
//! and a value of that depth is dropped by recursion, here and in the parser: that is more than a thread's
//! stack holds. So the events of the same parser are counted first, which builds nothing.

use toml_parser::parser::{EventReceiver, parse_document};
use toml_parser::{ErrorSink, Source, Span};

use crate::base::limits::CONFIG_DEPTH_MAX;

/// Where `text` nests deeper than [`CONFIG_DEPTH_MAX`], if it does.
pub(super) fn too_deep(text: &str) -> Option<usize> {
    let tokens = Source::new(text).lex().into_vec();
    let mut counter = Counter::default();
    parse_document(&tokens, &mut counter, &mut ()); // mistakes are told by whoever builds the values
    counter.too_deep
}

#[derive(Default)]
struct Counter {
    open: usize,
    dots: usize,
    too_deep: Option<usize>,
}

impl Counter {
    fn check(&mut self, depth: usize, span: Span) -> bool {
        let fits = depth <= CONFIG_DEPTH_MAX;
        if !fits {
            self.too_deep.get_or_insert(span.start());
        }
        fits
    }

    fn open(&mut self, span: Span) -> bool {
        self.open += 1;
        self.check(self.open, span)
    }
}

impl EventReceiver for Counter {
    fn inline_table_open(&mut self, span: Span, _: &mut dyn ErrorSink) -> bool {
        self.open(span)
    }

    fn inline_table_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.open = self.open.saturating_sub(1);
    }

    fn array_open(&mut self, span: Span, _: &mut dyn ErrorSink) -> bool {
        self.open(span)
    }

    fn array_close(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.open = self.open.saturating_sub(1);
    }

    fn key_sep(&mut self, span: Span, _: &mut dyn ErrorSink) {
        self.dots += 1;
        self.check(self.dots, span);
    }

    // Whatever ends a key: only what follows another dot at once is one path.
    fn key_val_sep(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.dots = 0;
    }

    fn newline(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.dots = 0;
    }
}
