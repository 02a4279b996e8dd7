//! The index itself: tantivy in RAM, one segment, so that equal scores keep the passages' order.
//!
//! Passages stay outside tantivy; it only ranks their numbers.

use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{
    AsciiFoldingFilter, LowerCaser, RemoveLongFilter, SimpleTokenizer, TextAnalyzer, TokenizerManager,
};
use tantivy::{Index, IndexReader, ReloadPolicy, TantivyDocument, Term};

use super::passages::{self, Passage, Skipped, Source};
use crate::error::Error;

/// Distinct words of a query that count; the rest is ignored.
const MAX_TERMS: usize = 64;
/// Characters of a query that are looked at.
const MAX_QUERY_BYTES: usize = 8192;
const WRITER_BYTES: usize = 15_000_000;
/// The name of the word splitter inside tantivy.
const WORDS: &str = "words";

/// A passage found, best first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Position in [`SearchIndex::passages`].
    pub passage: usize,
    /// BM25, higher is better.
    pub score: f32,
}

/// Passages and their index.
pub struct SearchIndex {
    passages: Vec<Passage>,
    names: Vec<String>,
    skipped: Skipped,
    field: Field,
    reader: IndexReader,
}

impl SearchIndex {
    /// Read the sources in order and index their passages.
    ///
    /// # Errors
    /// A folder that cannot be read. Single files that cannot be read are counted, not errors.
    pub fn build(sources: Vec<Source>) -> Result<SearchIndex, Error> {
        let read = passages::read(sources)?;
        let (field, reader) =
            index(&read.passages).map_err(|error| Error::Tool(format!("search: {error}")))?;
        Ok(SearchIndex { passages: read.passages, names: read.names, skipped: read.skipped, field, reader })
    }

    pub fn passages(&self) -> &[Passage] {
        &self.passages
    }

    /// File name (bundled knowledge) or path inside the folder.
    pub fn source_name(&self, passage: &Passage) -> &str {
        &self.names[passage.source]
    }

    /// What was left out, and why.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// The best `limit` passages: by score, equal scores in the order of the passages.
    pub fn search(&self, query: &str, limit: usize) -> Vec<Hit> {
        let terms = words(query);
        if terms.is_empty() || limit == 0 {
            return Vec::new();
        }
        let clauses = terms.into_iter().map(|word| {
            let term = Term::from_field_text(self.field, &word);
            let query: Box<dyn Query> = Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs));
            (Occur::Should, query)
        });
        let query = BooleanQuery::new(clauses.collect());
        let top = TopDocs::with_limit(limit).order_by_score();
        // The index is in memory and its one segment complete: a search has nothing to fail on.
        let found = self.reader.searcher().search(&query, &top).unwrap_or_default();
        found.into_iter().map(|(score, address)| Hit { passage: address.doc_id as usize, score }).collect()
    }
}

fn index(passages: &[Passage]) -> tantivy::Result<(Field, IndexReader)> {
    let mut schema = Schema::builder();
    let indexing =
        TextFieldIndexing::default().set_tokenizer(WORDS).set_index_option(IndexRecordOption::WithFreqs);
    let field = schema.add_text_field("text", TextOptions::default().set_indexing_options(indexing));
    let tokenizers = TokenizerManager::default();
    tokenizers.register(WORDS, splitter());
    let builder = Index::builder().schema(schema.build()).tokenizers(tokenizers);
    let directory = tantivy::directory::RamDirectory::create();
    let mut writer = builder.single_segment_index_writer(directory, WRITER_BYTES)?;
    for passage in passages {
        let mut document = TantivyDocument::default();
        document.add_text(field, &passage.text);
        writer.add_document(document)?;
    }
    let reader = writer.finalize()?.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
    Ok((field, reader))
}

/// Letters and digits, lower case, accents folded. No stemming: "mine" and "mining" stay apart.
fn splitter() -> TextAnalyzer {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(80))
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter)
        .build()
}

/// The distinct words of a query, in their order.
fn words(query: &str) -> Vec<String> {
    let mut end = query.len().min(MAX_QUERY_BYTES);
    while !query.is_char_boundary(end) {
        end -= 1;
    }
    let mut splitter = splitter();
    let mut stream = splitter.token_stream(&query[..end]);
    let mut words: Vec<String> = Vec::new();
    while stream.advance() && words.len() < MAX_TERMS {
        let word = &stream.token().text;
        if !words.contains(word) {
            words.push(word.clone());
        }
    }
    words
}
