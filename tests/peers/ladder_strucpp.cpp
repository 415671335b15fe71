// Runs a function block that STruC++ translated: a line of inputs on stdin is a scan, a line of outputs the answer.
// In: ms, Enable, Grant, OpAck, SetOffline, Fallback, extra inputs, status words; compiled beside block.cpp.

#include "block.hpp"

#include <cstdio>
#include <cstdlib>

static double number() {
  double found = 0;
  if (std::scanf("%lf", &found) != 1) std::exit(1);
  return found;
}

int main() {
  strucpp::FB_EDGEAI_VERDICT block;
  double ms;
  while (std::scanf("%lf", &ms) == 1) {
    strucpp::__CURRENT_TIME_NS = static_cast<int64_t>(ms * 1e6 + 0.5);
    block.ENABLE = number() != 0;
    block.GRANT = number() != 0;
    block.OPACK = number() != 0;
    block.SETOFFLINE = number() != 0;
    block.FALLBACK = static_cast<float>(number());
#ifdef TRIGGERED
    block.TRIGGER = number() != 0;
#endif
#ifdef VETO
    block.PLCLIMIT = static_cast<float>(number());
    block.PLCPERMIT = number() != 0;
    block.FALLBACKPERMIT = number() != 0;
#endif
    for (int i = 0; i < STATUS_WORDS; i++) block.STATUS[i] = static_cast<uint16_t>(number());
    block();
    for (int i = 0; i < 8; i++) std::printf("%u ", static_cast<unsigned>(static_cast<uint16_t>(block.CONTROL[i])));
    for (bool on : {bool(block.COMMOK), bool(block.INUSE), bool(block.ACKREQ), bool(block.NEWRESULT), bool(block.DONE),
                    bool(block.BUSY)})
      std::printf("%d ", on);
    std::printf("%u %u %u %d %d %.9g\n", unsigned(uint16_t(block.ERRORID)), unsigned(uint16_t(block.RESULTCODE)),
                unsigned(uint16_t(block.RESULTSEQ)), int(int32_t(block.VERDICT)), int(int32_t(block.SCORE)),
                double(float(block.OUT)));
    std::fflush(stdout);
  }
  return 0;
}
