//! Between the operator and bytes, for a physical plan that travels to another process.
//!
//! Start at [`PitJoinCodec`], DataFusion's way to say how an operator of one's own is written and read. The bytes are a
//! `vintner.v1.PointInTimeJoin` message: the description, and per view where its table is and which files it has. Whoever
//! reads them opens no registry and no Delta log.
//!
//! * Holds always: what is read joins as what was written. What is not known is refused and never left out.
//! * Not here: the entity rows, which are the plan's input and travel by its codec; credentials: whoever reads the bytes
//!   has the object stores by their URLs.

use std::sync::Arc;

use datafusion::{
    error::{DataFusionError, Result},
    execution::{TaskContext, object_store::ObjectStoreUrl},
    physical_plan::ExecutionPlan,
};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use object_store::{path::Path, prefix::PrefixStore};
use prost::Message;
use url::{Position, Url};
use vintner_core::{FeatureName, FeatureType, Timestamp, Value, VisibilityRule};
use vintner_join::{JoinSpec, OutputColumn, ViewInput};
use vintner_proto::{
    convert::{self, ConvertError, ConvertProblem, each, key_schema, name, required},
    v1,
};

use super::PitJoinExec;
use crate::feature_table::{FeatureFile, FeatureTable};

/// The format that is written, and the only one that is read.
const FORMAT: u32 = 1;

/// Writes and reads [`PitJoinExec`]. The object store of each table must be in the registry of whoever reads.
#[derive(Debug, Clone, Copy, Default)]
pub struct PitJoinCodec;

/// Why bytes are no join.
#[derive(Debug, thiserror::Error)]
enum CodecError {
    /// They are no message of this kind.
    #[error("the bytes are no point-in-time join: {0}")]
    Bytes(#[from] prost::DecodeError),
    /// They are of another format.
    #[error(
        "the point-in-time join has format {0} and this version of Vintner reads format {FORMAT}; run the same version \
         everywhere"
    )]
    Format(u32),
    /// Something in them is not valid.
    #[error("the point-in-time join is not valid: {0}")]
    Content(#[from] ConvertError),
    /// A table is where nothing can be.
    #[error("`{0}` is no table's place: {1}")]
    Location(String, Box<dyn std::error::Error + Send + Sync>),
    /// A table is in a store that this process does not have.
    #[error(
        "there is no object store for the table at {0}; register it with the session's `RuntimeEnv`"
    )]
    Store(String),
    /// The plan has another number of inputs.
    #[error("a point-in-time join has one input, the entity rows, and not {0}")]
    Inputs(usize),
}

impl PhysicalExtensionCodec for PitJoinCodec {
    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        _converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let Some(join) = node.downcast_ref::<PitJoinExec>() else {
            return Err(DataFusionError::NotImplemented(format!(
                "{} is no point-in-time join",
                node.name()
            )));
        };
        message(join).encode(buf).map_err(external)
    }

    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        _converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let message =
            v1::PointInTimeJoin::decode(buf).map_err(|e| external(CodecError::from(e)))?;
        if message.format != FORMAT {
            return Err(external(CodecError::Format(message.format)));
        }
        let [entity_rows] = inputs else {
            return Err(external(CodecError::Inputs(inputs.len())));
        };
        let lint = message.lint;
        let (spec, files) = description(message).map_err(|e| external(CodecError::from(e)))?;
        let tables = files
            .into_iter()
            .map(|(location, files)| table(&location, files, context));
        let tables: Vec<FeatureTable> = tables.collect::<Result<_>>()?;
        let join = PitJoinExec::try_new(Arc::new(spec), Arc::clone(entity_rows), tables.into())?;
        Ok(Arc::new(match lint {
            true => join.with_lint(),
            false => join,
        }))
    }
}

fn external(err: impl std::error::Error + Send + Sync + 'static) -> DataFusionError {
    DataFusionError::External(Box::new(err))
}

fn message(join: &PitJoinExec) -> v1::PointInTimeJoin {
    let JoinSpec {
        time_column,
        views,
        outputs,
    } = join.spec();
    let views = views.iter().zip(join.tables());
    v1::PointInTimeJoin {
        format: FORMAT,
        time_column: time_column.clone(),
        views: views
            .map(|(view, table)| view_message(view, table))
            .collect(),
        columns: outputs.iter().map(column_message).collect(),
        lint: join.lints(),
    }
}

fn view_message(input: &ViewInput, table: &FeatureTable) -> v1::JoinedView {
    let ViewInput {
        view,
        keys,
        rule,
        features,
    } = input;
    let VisibilityRule {
        ttl,
        knowledge,
        boundary,
    } = rule;
    let feature = |(name, feature_type): &(FeatureName, FeatureType)| v1::JoinedFeature {
        name: name.to_string(),
        r#type: Some((*feature_type).into()),
    };
    let file = |file: &FeatureFile| v1::JoinedFile {
        path: file.path.clone(),
        bytes: file.bytes,
        rows: file.rows,
        first_event: file.events.map(|(first, _)| first.micros()),
        last_event: file.events.map(|(_, last)| last.micros()),
    };
    v1::JoinedView {
        view: Some(view.into()),
        join_keys: keys.join_keys().iter().map(Into::into).collect(),
        ttl: ttl.map(|ttl| ttl.micros()),
        knowledge: v1::KnowledgeMode::from(*knowledge).into(),
        boundary: v1::BoundaryMode::from(*boundary).into(),
        features: features.iter().map(feature).collect(),
        location: table.location().to_owned(),
        files: table.files().iter().map(file).collect(),
    }
}

fn column_message(output: &OutputColumn) -> v1::JoinedColumn {
    let OutputColumn {
        view,
        feature,
        name,
        default,
    } = output;
    v1::JoinedColumn {
        // A join of that many views would be refused long before. A place that is none is refused when it is read.
        view: u32::try_from(*view).unwrap_or(u32::MAX),
        feature: feature.to_string(),
        name: name.clone(),
        default: default.as_ref().map(Into::into),
    }
}

/// Where a view's table is, and its files.
type TableFiles = (String, Vec<FeatureFile>);

fn description(message: v1::PointInTimeJoin) -> Result<(JoinSpec, Vec<TableFiles>), ConvertError> {
    let views: Vec<(ViewInput, TableFiles)> = each(message.views, "views", view)?;
    let (views, files) = views.into_iter().unzip();
    let spec = JoinSpec {
        time_column: message.time_column,
        views,
        outputs: each(message.columns, "columns", column)?,
    };
    Ok((spec, files))
}

fn view(message: v1::JoinedView) -> Result<(ViewInput, TableFiles), ConvertError> {
    let feature = |message: v1::JoinedFeature| {
        let name: FeatureName = name(&message.name).map_err(|e| e.within("name"))?;
        Ok((name, required(message.r#type, "type")?))
    };
    let input = ViewInput {
        view: required(message.view, "view")?,
        keys: key_schema(message.join_keys)?,
        rule: VisibilityRule {
            ttl: message
                .ttl
                .map(convert::ttl)
                .transpose()
                .map_err(|e| e.within("ttl"))?,
            knowledge: convert::knowledge(message.knowledge).map_err(|e| e.within("knowledge"))?,
            boundary: convert::boundary(message.boundary).map_err(|e| e.within("boundary"))?,
        },
        features: each(message.features, "features", feature)?,
    };
    let files = each(message.files, "files", file)?;
    Ok((input, (message.location, files)))
}

fn file(message: v1::JoinedFile) -> Result<FeatureFile, ConvertError> {
    let events = match (message.first_event, message.last_event) {
        (Some(first), Some(last)) => {
            Some((Timestamp::from_micros(first), Timestamp::from_micros(last)))
        }
        (None, None) => None,
        (Some(_), None) => return Err(ConvertError::at("last_event", ConvertProblem::Missing)),
        (None, Some(_)) => return Err(ConvertError::at("first_event", ConvertProblem::Missing)),
    };
    Ok(FeatureFile {
        path: message.path,
        bytes: message.bytes,
        rows: message.rows,
        events,
    })
}

fn column(message: v1::JoinedColumn) -> Result<OutputColumn, ConvertError> {
    Ok(OutputColumn {
        view: message.view as usize,
        feature: name(&message.feature).map_err(|e| e.within("feature"))?,
        name: message.name,
        default: message
            .default
            .map(Value::try_from)
            .transpose()
            .map_err(|e| e.within("default"))?,
    })
}

/// A table whose folder is in one of the object stores that whoever runs the join has.
fn table(location: &str, files: Vec<FeatureFile>, context: &TaskContext) -> Result<FeatureTable> {
    let nowhere = |e: Box<dyn std::error::Error + Send + Sync>| {
        external(CodecError::Location(location.to_owned(), e))
    };
    let url = Url::parse(location).map_err(|e| nowhere(e.into()))?;
    let store = ObjectStoreUrl::parse(&url[..Position::BeforePath])?;
    let objects = context
        .runtime_env()
        .object_store(store)
        .map_err(|_| external(CodecError::Store(location.to_owned())))?;
    let folder = Path::from_url_path(url.path()).map_err(|e| nowhere(e.into()))?;
    let folder = Arc::new(PrefixStore::new(objects, folder));
    Ok(FeatureTable::new(location, folder, files))
}
