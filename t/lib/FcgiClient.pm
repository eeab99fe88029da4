# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A FastCGI client for tests of the harness and for comparing what an
# application answers with what comes out of the web server.
#
#     my $answer = FcgiClient::request('/run/app.sock',
#         { SCRIPT_FILENAME => '/srv/a.php', REQUEST_METHOD => 'GET' }, $body);
#     $answer->{stdout}, {stderr}, {app_status}, {protocol_status}, {complete}
package FcgiClient;

use strict;
use warnings;
use FcgiWire;
use IO::Socket::INET;
use IO::Socket::UNIX;

# A FcgiWire on a new connection to "/a/path" or "host:port"; undef if refused.
sub connect {
    my ($address) = @_;
    my $socket = $address =~ m{^/}
        ? IO::Socket::UNIX->new(Peer => $address)
        : IO::Socket::INET->new(PeerAddr => $address, Timeout => 5);
    return $socket && FcgiWire->new($socket);
}

# One request on a connection of its own; undef when that is refused.
sub request {
    my ($address, $params, $body, %opt) = @_;
    my $wire = FcgiClient::connect($address) or return undef;
    send_request($wire, $params, $body, $opt{flags});
    return read_answer($wire, $opt{timeout});
}

sub send_request {
    my ($wire, $params, $body, $flags) = @_;
    $body //= '';
    my %all = (REQUEST_METHOD => 'GET', SERVER_PROTOCOL => 'HTTP/1.1',
               CONTENT_LENGTH => length $body, %$params);
    my $pairs = FcgiWire::encode_pairs(map { [$_, $all{$_}] } sort keys %all);
    return $wire->send(join '',
        $wire->record(FCGI_BEGIN_REQUEST, 1,
                      pack 'nCx5', FCGI_RESPONDER, $flags // 0),
        $wire->records(FCGI_PARAMS, 1, $pairs),
        $wire->records(FCGI_PARAMS, 1, ''),
        $body eq '' ? '' : $wire->records(FCGI_STDIN, 1, $body),
        $wire->records(FCGI_STDIN, 1, ''));
}

# { stdout, stderr, complete } and the two codes of END_REQUEST if it came.
sub read_answer {
    my ($wire, $timeout) = @_;
    my %answer = (stdout => '', stderr => '', complete => 0);
    while (my $record = $wire->read_record($timeout)) {
        my $type = $record->{type};
        $answer{stdout} .= $record->{content} if $type == FCGI_STDOUT;
        $answer{stderr} .= $record->{content} if $type == FCGI_STDERR;
        next if $type != FCGI_END_REQUEST;
        @answer{qw(app_status protocol_status)}
            = @$record{qw(app_status protocol_status)};
        $answer{complete} = 1;
        last;
    }
    return \%answer;
}

1;
