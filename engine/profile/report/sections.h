// The parts of the page about a profile, one function each.
#pragma once

#include "engine/profile/report/fields.h"

namespace torpor::profile_report {

void add_headline(ReportPage& page, const Json& profile);        // headline.cpp
Section meaning(const Json& profile, const Json& manifest);      // headline.cpp
Section price(const Json& profile);                              // price.cpp
Section layer_by_layer(const Json& profile);                     // layers.cpp
Section magnitudes(const Json& profile);                         // layers.cpp
Section hot_and_dead(const Json& profile);                       // neurons.cpp
Section locality(const Json& profile);                           // neurons.cpp
Section limits(const Json& profile);                             // method.cpp
Section method(const Json& profile);                             // method.cpp
Section application(const Json& profile, const Json& manifest);  // method.cpp
Section origin(const Json& manifest);                            // method.cpp

/// What the layers can be compared with at which error: the levels of by_cett that any layer has, ascending.
std::vector<double> cett_levels(const Json& profile);
/// Budget as a relative change (0.01), NaN where the target is another one.
double budget(const Json& profile);

}  // namespace torpor::profile_report
