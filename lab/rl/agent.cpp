#include "lab/rl/agent.h"

namespace torpor::lab {

void Agent::update_targets() {
  for (const auto& network : networks_) network->update_target(options_.target_part);
  weights_changed();
}

NamedTensors Agent::tensors() const {
  NamedTensors out;
  for (const auto& network : networks_)
    for (const auto& tensor : network->tensors()) out.push_back(tensor);
  return out;
}

Json Agent::state() const {
  Json json = {{"random", random_.state()}, {"networks", Json::array()}};
  for (const auto& network : networks_) json["networks"].push_back(network->state());
  return json;
}

void Agent::set_state(const Json& state) {
  random_.set_state(state.at("random").get<std::string>());
  for (std::size_t i = 0; i < networks_.size(); ++i) networks_[i]->set_state(state.at("networks").at(i));
}

std::unique_ptr<Agent> make_agent(const EnvironmentSpec& environment, const RlOptions& options) {
  return options.agent == "sac" ? make_sac(environment, options) : make_dqn(environment, options);
}

}  // namespace torpor::lab
