# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A raw HTTP/1 client that sends what it is given and judges whether an answer
# is complete.  And curl, for HTTP/2 and TLS.
#
#     my $answer = Client->get($port, '/a.php', Host => 'x');
#     my $answer = Client->request($port,
#         "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
#         timeout => 10);
#     is($answer->status, 200);
#     is($answer->header('Content-Type'), 'text/plain');
#     ok($answer->complete) or diag $answer->error;
#
#     my $conn = Client->connect($port, rcvbuf => 4096);
#     $conn->send("GET /a HTTP/1.1\r\n" ...);       # false if the peer is gone
#     $conn->read_until(qr/first/, 5) or die;       # what was read so far
#     my $answer = $conn->read_response(method => 'GET', timeout => 10);
#     $conn->at_eof(5);       # whether the server closes, and sent no more
#     $conn->close;           # or ->shutdown_write, or ->reset for a RST
#
#     my $answer = Client::curl('--http2-prior-knowledge', $url);
#     $answer->{exit}, {status}, {http_version}, {headers}, {body}, {stderr}
#
# Timeouts are seconds and default to 10.  A response has:
#     status, reason, version ("1.1")
#     headers        [[name, value], ...] in order, trailers likewise
#     header($name)  the first value or undef; header_all($name) a list
#     body           without the chunked coding
#     raw            all bytes, interim responses included
#     complete       true only if the body's end was seen to be its end
#     error          why it is not complete: 'closed', 'reset', 'timeout' or
#                    'malformed'; reset, timed_out: booleans
#     interim        1xx responses before: [{ status, headers }, ...]
#     sent_at, first_byte_at, headers_at, end_at   times of this machine
package Client;

use strict;
use warnings;
use Errno qw(EINTR ECONNRESET EPIPE);
use IO::Select;
use IO::Socket::INET;
use Private;
use Socket qw(SOL_SOCKET SO_LINGER SO_RCVBUF MSG_NOSIGNAL);
use Time::HiRes qw(time);

sub connect {
    my ($class, $port, %opt) = @_;
    my $socket = IO::Socket::INET->new(
        PeerAddr => $opt{host} || '127.0.0.1', PeerPort => $port,
        Proto => 'tcp', Timeout => 10,
        Sockopts => $opt{rcvbuf} ? [[SO_RCVBUF, $opt{rcvbuf}]] : [],
    ) or die "connect to port $port: $@";
    return bless { socket => $socket, buffer => '', state => 'open' }, $class;
}

sub request {
    my ($class, $port, $bytes, %opt) = @_;
    my ($method) = $bytes =~ /^(\S+)/;
    my $conn = $class->connect($port, %opt);
    $conn->send($bytes);
    return $conn->read_response(method => $method, %opt);
}

# GET with "Connection: close", unless the headers say otherwise.
sub get {
    my ($class, $port, $path, %headers) = @_;
    %headers = (Host => "localhost:$port", Connection => 'close', %headers);
    my $lines = join '', map { "$_: $headers{$_}\r\n" } sort keys %headers;
    return $class->request($port, "GET $path HTTP/1.1\r\n$lines\r\n");
}

sub send {
    my ($self, $bytes) = @_;
    my $at = 0;
    $self->{sent_at} = time;
    while ($at < length $bytes) {
        my $sent = CORE::send($self->{socket}, substr($bytes, $at, 262144),
                              MSG_NOSIGNAL);
        return 0 if !defined $sent && $! != EINTR;
        $at += $sent // 0;
    }
    return 1;
}

# Reads once: true, or false with {state} 'closed', 'reset' or, for this time
# only, 'timeout'.
sub fill {
    my ($self, $deadline) = @_;
    return 0 if $self->{state} =~ /closed|reset/;
    my $left = $deadline - time;
    $self->{state} = 'timeout';
    IO::Select->new($self->{socket})->can_read($left > 0 ? $left : 0)
        or return 0;
    my $got = sysread $self->{socket}, $self->{buffer}, 262144,
        length $self->{buffer};
    $self->{state} = $got ? 'open' : defined $got ? 'closed' : 'reset';
    return $got ? 1 : 0;
}

# What comes within the time, taken out of the buffer; '' if nothing does.
sub read_some {
    my ($self, $timeout) = @_;
    $self->fill(time + ($timeout // 10)) if $self->{buffer} eq '';
    return $self->take(length $self->{buffer});
}

# All that is read and not taken yet, as soon as it matches; else undef.  It
# stays there for read_response.
sub read_until {
    my ($self, $pattern, $timeout) = @_;
    my $deadline = time + ($timeout // 10);
    while ($self->{buffer} !~ $pattern) {
        $self->fill($deadline) or return undef;
    }
    return $self->{buffer};
}

# True when the server closes within the time and nothing is left to read.
sub at_eof {
    my ($self, $timeout) = @_;
    return 0 if $self->{buffer} ne '';
    return 0 if $self->fill(time + ($timeout // 10));
    return $self->{state} ne 'timeout';
}

sub port { return $_[0]{socket}->sockport }
sub shutdown_write { return shutdown $_[0]{socket}, 1 }
sub close { return CORE::close $_[0]{socket} }

sub reset {
    my ($self) = @_;
    setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
    return $self->close;
}

# The next response; always an object, however little came.
sub read_response {
    my ($self, %opt) = @_;
    $self->{deadline} = time + ($opt{timeout} // 10);
    $self->{raw} = '';
    my $answer = bless {
        body => '', headers => [], trailers => [], interim => [],
        complete => 0, error => undef, sent_at => $self->{sent_at},
    }, 'Client::Response';
    my $ok = eval {
        $self->read_head($answer);
        $self->read_body($answer, $opt{method} || 'GET');
        1;
    };
    $answer->{error} = $@ =~ s/\n//r if !$ok;
    $answer->{complete} = 1 if $ok;
    $answer->{end_at} = time;
    $answer->{raw} = delete $self->{raw};
    return $answer;
}

# The status line and headers of the final response, interim ones before it.
sub read_head {
    my ($self, $answer) = @_;
    $self->need(1);
    $answer->{first_byte_at} = time;
    while (1) {
        my $line = $self->line;
        $line =~ m{^HTTP/(\d\.\d) (\d{3})(?: (.*))?$} or die "malformed\n";
        @$answer{qw(version status reason)} = ($1, $2, $3 // '');
        $answer->{headers} = $self->fields;
        last if $answer->{status} >= 200 || $answer->{status} == 101;
        push @{ $answer->{interim} }, { %$answer{qw(status headers)} };
    }
    $answer->{headers_at} = time;
    return;
}

sub read_body {
    my ($self, $answer, $method) = @_;
    return if $method eq 'HEAD' || $answer->{status} =~ /^(?:1..|204|304)$/;
    my $length = $answer->header('Content-Length');
    if (($answer->header('Transfer-Encoding') // '') =~ /chunked/i) {
        $self->read_chunks($answer);
    }
    elsif (defined $length) {
        $self->append($answer, $length);
    }
    else {
        $self->append_rest($answer);
    }
    return;
}

sub read_chunks {
    my ($self, $answer) = @_;
    while (1) {
        $self->line =~ /^([0-9a-fA-F]+)\s*(?:;.*)?$/ or die "malformed\n";
        my $size = hex $1 or last;
        $self->append($answer, $size);
        $self->line eq '' or die "malformed\n";
    }
    $answer->{trailers} = $self->fields;
    return;
}

# Moves $length bytes to the body, and what there is of them if it ends early.
sub append {
    my ($self, $answer, $length) = @_;
    while ($length > 0) {
        $self->need(1);
        my $piece = $self->take($length);
        $answer->{body} .= $piece;
        $length -= length $piece;
    }
    return;
}

sub append_rest {
    my ($self, $answer) = @_;
    do {
        $answer->{body} .= $self->take(length $self->{buffer});
    } while ($self->fill($self->{deadline}));
    die "$self->{state}\n" if $self->{state} ne 'closed';
    return;
}

# Up to $len bytes out of the buffer.
sub take {
    my ($self, $len) = @_;
    my $bytes = substr $self->{buffer}, 0, $len, '';
    $self->{raw} .= $bytes;
    return $bytes;
}

# Waits for $len bytes; dies with the reason when they do not come.
sub need {
    my ($self, $len) = @_;
    while (length $self->{buffer} < $len) {
        $self->fill($self->{deadline}) or die "$self->{state}\n";
    }
    return;
}

sub line {
    my ($self) = @_;
    my $end;
    while (($end = index $self->{buffer}, "\n") < 0) {
        $self->need(1 + length $self->{buffer});
    }
    return $self->take($end + 1) =~ s/\r?\n\z//r;
}

sub fields {
    my ($self) = @_;
    my @fields;
    while ((my $line = $self->line) ne '') {
        $line =~ /^([^:\s]+):[ \t]*(.*?)[ \t]*$/ or die "malformed\n";
        push @fields, [$1, $2];
    }
    return \@fields;
}

# Runs curl with the arguments given; nothing of the user's own settings.
sub curl {
    my (@args) = @_;
    my $dir = Private::temp_dir('curl');
    my ($exit, $written) = Private::run(
        'curl', '-q', '-sS', '--max-time', 20, '-o', "$dir/body",
        '-D', "$dir/head", '--stderr', "$dir/err",
        '-w', '%{http_code} %{http_version}', @args);
    my ($status, $version) = split ' ', $written;
    return {
        exit => $exit, status => $status, http_version => $version,
        body => Private::slurp("$dir/body"),
        headers => Private::slurp("$dir/head"),
        stderr => Private::slurp("$dir/err"),
    };
}

package Client::Response;

use strict;
use warnings;

for my $name (qw(status reason version headers trailers body raw complete
                 error interim sent_at first_byte_at headers_at end_at)) {
    no strict 'refs';
    *$name = sub { return $_[0]{$name} };
}

sub reset     { return ($_[0]{error} // '') eq 'reset' }
sub timed_out { return ($_[0]{error} // '') eq 'timeout' }

sub header {
    my ($self, $name) = @_;
    return ($self->header_all($name))[0];
}

sub header_all {
    my ($self, $name) = @_;
    return map { $_->[1] } grep { lc $_->[0] eq lc $name }
        @{ $self->{headers} };
}

1;
