#include "agent/http/exchange.h"

#include "agent/http/server.h"
#include "agent/http/server_connection.h"

namespace modal::http {
namespace {

constexpr size_t kKeptBody = size_t{16} * 1024;

}  // namespace

void Exchange::Send(const Response& response) { connection_->Send(response); }
void Exchange::Begin(const ResponseHead& head) { connection_->Begin(head); }
bool Exchange::Write(std::string_view data) { return connection_->Write(data); }
void Exchange::End(std::span<const Header> trailers) { connection_->End(trailers); }
void Exchange::Inform(int status, std::span<const Header> headers) {
  connection_->Inform(status, headers);
}
void Exchange::Abort() { connection_->Abort(); }
void Exchange::Cork() { connection_->Cork(); }
void Exchange::Uncork() { connection_->Uncork(); }
DetachedConnection Exchange::SwitchProtocols(std::string_view lines) {
  return connection_->SwitchProtocols(lines);
}
const SocketAddress& Exchange::peer() const { return connection_->peer(); }
bool Exchange::SpliceBody() { return connection_->SpliceBody(); }
event::IoResult Exchange::ReadBodyInto(event::Pipe& pipe) {
  return connection_->ReadBodyInto(pipe);
}
uint64_t Exchange::room_to_splice() const { return connection_->room_to_splice(); }
void Exchange::WriteFrom(event::Pipe& pipe) { connection_->WriteFrom(pipe); }
void Exchange::PauseBody() { connection_->PauseBody(); }
void Exchange::ResumeBody() { connection_->ResumeBody(); }

void Exchange::DetachResponder() {
  if (responder_ != nullptr) responder_->exchange_ = nullptr;
  responder_ = nullptr;
}

void Exchange::Clear() {
  DetachResponder();
  context = nullptr;
  connection_ = nullptr;
  request_ = {};
  collected_.clear();
  if (collected_.capacity() > kKeptBody) collected_.shrink_to_fit();
}

Responder::Responder(Exchange& exchange) : exchange_(&exchange) {
  exchange.DetachResponder();
  exchange.responder_ = this;
}

Responder::Responder(Responder&& other) noexcept
    : exchange_(std::exchange(other.exchange_, nullptr)) {
  if (exchange_ != nullptr) exchange_->responder_ = this;
}

Responder::~Responder() {
  if (exchange_ == nullptr) return;
  Send(ErrorResponse(500, "internal_error", "the request was not answered"));
}

void Responder::Send(const Response& response) {
  if (exchange_ == nullptr) return;
  Exchange& exchange = *exchange_;
  exchange.DetachResponder();
  exchange.Send(response);
}

Response ExchangeHandler::OnRefused(const RefusedRequest& refused) {
  return ErrorResponse(refused.error.status, refused.error.error, refused.error.message);
}

}  // namespace modal::http
