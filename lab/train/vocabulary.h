// Vocabularies for training: SentencePiece's own trainer on the text.
#pragma once

#include <string>

#include "engine/profile/corpus.h"

namespace torpor::lab {

/// tokenizer.model: byte-pair encoding of `pieces` pieces, the unknown token, BOS and 256 bytes among them, text as it
/// is (no normalisation, digits apart, an added space before the first word, as Llama's). Trained on at most 10 MB of
/// whole lines spread evenly over the text; the same text gives the same bytes. Throws BadInput where the text does not
/// support so many pieces (SentencePiece says how many).
std::string train_sentencepiece(const TextCorpus& corpus, int pieces);

/// tokenizer_config.json to lie beside it.
std::string sentencepiece_config_json();

}  // namespace torpor::lab
