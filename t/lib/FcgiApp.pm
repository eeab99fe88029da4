# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A scripted FastCGI application: it does to each connection exactly what the
# test says, right or wrong.
#
#     my $app = FcgiApp->start(sub {
#         my ($c) = @_;
#         my $request = $c->read_request or return;
#         $c->report(params => $request->{params});
#         $c->stdout("Content-Type: text/plain\r\n\r\nfirst");
#         $c->wait_release('second', 5);
#         $c->stdout(' second');
#         $c->end(0, FCGI_REQUEST_COMPLETE);
#     });
#     ... SetHandler @{[ $app->handler ]} ...
#     my $params = $app->wait_report('params', 5);
#     $app->release('second');
#
# The handler runs in another process, which gets its own copy of the test's
# variables: report() and release() are the way back and forth.  It must not
# use Test::More.  After it returns the connection is closed.  If it dies,
# that is the report 'died', and a line in the test's output unless the test
# waited for that report.
#
# FcgiApp->start($handler, options):
#     transport => 'unix' or 'tcp'   default: environment TRANSPORT, or unix
#     host      => '127.0.0.2'       of TCP, 127.0.0.1
#     socket    => path              of the unix socket, else a private one
#     backlog   => count             of listen(), 128
#     workers   => count             processes that accept, 1; with 0 nobody
#                                    ever accepts
# $app->address      "/tmp/.../app.sock" or "127.0.0.1:34567"
# $app->handler      the same with "fcgi:" before
# $app->wait_report($name, $timeout)
#                    the data of the oldest report of that name not asked for
#                    yet; undef after $timeout (10) seconds
# $app->reports      all so far: [name, data], ...
# $app->release($name)
#                    lets every wait_release($name) pass, now and later; for
#                    one connection alone put $c->number into the name
# $app->connections  how many were accepted so far
# $app->pause, $app->resume
#                    stop and continue the workers with the socket listening
# $app->stop         ends the workers at once; connections to it are refused
#                    (a unix socket's file is removed; keep_file => 1 leaves
#                    it, as a crash does)
# $app->restart($handler)
#                    stop, and start on the same address, with the new
#                    handler if there is one
#
# In the handler, $c has all of FcgiWire.pm (read_record, record, send,
# send_slowly, readable, wait_eof, shutdown_write, close, reset), and:
# $c->number         of the connection, from 1, over all workers
# $c->read_request($timeout), $c->read_params($timeout)
#                    the next request, to the end of STDIN or of PARAMS; see
#                    there.  undef when the connection ended before it
# $c->stdout($bytes, chunk => size, padding => size), $c->stderr(same)
#                    as records of chunk (65535) bytes; '' ends the stream
# $c->end($app_status, $protocol_status)
# $c->reply($bytes)  a whole answer: STDOUT, its end, END_REQUEST
# $c->report($name => $data), $c->wait_release($name, $timeout)
#
# Records are sent with the id of the last request read.  All that send
# return false when the peer is gone.
package FcgiApp;

use strict;
use warnings;
use Exporter qw(import);
use Fcntl qw(:flock O_WRONLY O_APPEND O_CREAT);
use FcgiWire;
use IO::Select;
use POSIX ();
use Private;
use Storable ();
use Test::More ();
use Time::HiRes qw(time);

our @ISA = qw(Private::Server);

our @EXPORT = @FcgiWire::EXPORT;         # the FCGI_ constants for the test

sub start {
    my ($class, $handler, %opt) = @_;
    my $self = $class->new('app',
        transport => $ENV{TRANSPORT} || 'unix', backlog => 128, workers => 1,
        %opt, code => $handler, pids => [], reports => [], read_to => 0);
    if ($self->{transport} eq 'tcp') {
        $self->{port} = Private::reserve_port($self->{host});
    }
    else {
        $self->{socket} //= "$self->{dir}/app.sock";
    }
    $self->launch;
    return $self;
}

sub launch {
    my ($self) = @_;
    my $listener = $self->listener;
    push @{ $self->{pids} }, Private::spawn(code => sub {
        $self->work($listener);
    }) for 1 .. $self->{workers};
    # Held here only if nobody else does: else a crashed application would
    # still seem to listen.
    $self->{listener} = $self->{workers} ? undef : $listener;
    return;
}

sub listener {
    my ($self) = @_;
    my $socket = Private::listen_at(
        $self->{transport} eq 'tcp' ? $self->{port} : $self->{socket},
        $self->{backlog});
    $socket->blocking(0);
    return $socket;
}

sub address {
    my ($self) = @_;
    return $self->{transport} eq 'tcp'
        ? $self->{port}->sockhost . ':' . $self->{port}->sockport
        : "$self->{socket}";
}

# A worker: accepts until it is killed or the test is gone.
sub work {
    my ($self, $listener) = @_;
    let_go_of_files($listener);
    $SIG{PIPE} = 'IGNORE';
    my $select = IO::Select->new($listener);
    while (getppid == $self->{owner}) {
        next if !$select->can_read(0.25);
        my $socket = $listener->accept or next;
        $socket->blocking(1);
        $self->serve($socket);
    }
    return;
}

# Every other file and socket of the test becomes /dev/null here: else what
# the test closes would stay open in this process.
sub let_go_of_files {
    my ($listener) = @_;
    open my $null, '+<', '/dev/null' or die $!;
    my @open = -d '/proc/self/fd'
        ? map { m{(\d+)$} } glob '/proc/self/fd/*' : 3 .. 255;
    for my $fd (@open) {
        next if $fd < 3 || $fd == fileno $listener || $fd == fileno $null;
        POSIX::dup2(fileno $null, $fd);
    }
    POSIX::dup2(2, 1);
    return;
}

sub serve {
    my ($self, $socket) = @_;
    my $c = FcgiApp::Connection->new($socket);
    $c->{app} = $self;
    $c->{number} = $self->count_connection;
    if (!eval { $self->{code}->($c); 1 }) {
        $c->report(died => $@);
    }
    $c->close;
    return;
}

# One byte in a file for each connection; where it lies is the number.
sub count_connection {
    my ($self) = @_;
    sysopen my $file, "$self->{dir}/accepted", O_WRONLY | O_APPEND | O_CREAT
        or die $!;
    syswrite $file, '.';
    return sysseek($file, 0, 1) + 0;
}

sub connections { return -s "$_[0]{dir}/accepted" || 0 }

# Reports are appended to a file, so that no worker waits for the test.
sub append_report {
    my ($self, $name, $data) = @_;
    my $bytes = Storable::freeze([$name, $data]);
    sysopen my $file, "$self->{dir}/reports", O_WRONLY | O_APPEND | O_CREAT
        or die $!;
    flock $file, LOCK_EX;
    syswrite $file, pack('N', length $bytes) . $bytes;
    close $file;
    return;
}

sub reports {
    my ($self) = @_;
    $self->gather;
    return map { [@$_{qw(name data)}] } @{ $self->{reports} };
}

sub gather {
    my ($self) = @_;
    open my $file, '<:raw', "$self->{dir}/reports" or return;
    seek $file, $self->{read_to}, 0;
    while (read($file, my $size, 4) == 4) {
        my $len = unpack 'N', $size;
        last if read($file, my $bytes, $len) < $len;
        $self->{read_to} += 4 + $len;
        my ($name, $data) = @{ Storable::thaw($bytes) };
        push @{ $self->{reports} }, { name => $name, data => $data };
    }
    return;
}

sub wait_report {
    my ($self, $name, $timeout) = @_;
    my $report = Private::wait_until($timeout // 10, sub {
        $self->gather;
        my @new = grep { $_->{name} eq $name && !$_->{taken} }
            @{ $self->{reports} };
        return $new[0];
    });
    $self->tell_of_deaths if !$report;
    return undef if !$report;
    $report->{taken} = 1;
    return $report->{data};
}

# A handler that died is the test's business only if it asked.
sub tell_of_deaths {
    my ($self) = @_;
    for my $report (grep { $_->{name} eq 'died' } @{ $self->{reports} }) {
        next if $report->{taken} || $report->{told}++;
        Test::More::diag("scripted application died: $report->{data}");
    }
    return;
}

sub release {
    my ($self, $name) = @_;
    Private::spew($self->gate($name), '');
    return;
}

sub gate {
    my ($self, $name) = @_;
    return "$self->{dir}/release." . unpack 'H*', $name;
}

sub pause  { kill 'STOP', @{ $_[0]{pids} } }
sub resume { kill 'CONT', @{ $_[0]{pids} } }

sub stop {
    my ($self, %opt) = @_;
    return if $self->{owner} != $$;
    Private::end($_, 'KILL') for splice @{ $self->{pids} };
    $self->{listener} = undef;
    unlink $self->{socket} if $self->{socket} && !$opt{keep_file};
    $self->gather;
    $self->tell_of_deaths;
    return;
}

sub restart {
    my ($self, $handler) = @_;
    $self->stop;
    $self->{code} = $handler if $handler;
    $self->launch;
    return;
}

# A ready handler: 200, all variables sorted, a blank line, the request body.
# It serves one request after another when the connection may be kept.
sub echo_params {
    my ($c) = @_;
    while (my $request = $c->read_request(60)) {
        my @lines = sort map { "$_->[0]=" . escape($_->[1]) . "\n" }
            @{ $request->{pairs} };
        $c->reply(join '', "Content-Type: text/plain\r\n\r\n", @lines, "\n",
                  $request->{stdin});
        last if !($request->{flags} & FCGI_KEEP_CONN);
    }
    return;
}

sub escape {
    my ($value) = @_;
    $value =~ s/\\/\\\\/g;
    $value =~ s/\n/\\n/g;
    $value =~ s/([\x00-\x1f\x7f])/sprintf '\\x%02x', ord $1/ge;
    return $value;
}

package FcgiApp::Connection;

use strict;
use warnings;
use FcgiWire;
use Time::HiRes qw(time);

our @ISA = qw(FcgiWire);

my $SLICE = 1_000_000;

sub number { return $_[0]{number} }

# The next request: { id, role, flags, params => { name => value },
# pairs => [[name, value], ...], params_raw, stdin, records => [all],
# params_complete and stdin_complete => whether the empty record came,
# aborted => whether ABORT_REQUEST came }.  It returns early when the peer
# aborts or closes, and dies after $timeout (10) seconds of nothing.
sub read_request {
    my ($self, $timeout) = @_;
    my $request = $self->read_params($timeout) or return undef;
    while (!$request->{stdin_complete} && !$request->{aborted}) {
        my $record = $self->read_record($timeout) or last;
        add_record($request, $record);
    }
    return $request;
}

# The same up to the end of PARAMS; STDIN is then there for read_record.
sub read_params {
    my ($self, $timeout) = @_;
    my %request = (params_raw => '', stdin => '', records => []);
    while (!$request{params_complete} && !$request{aborted}) {
        my $record = $self->read_record($timeout) or last;
        add_record(\%request, $record);
    }
    return undef if !defined $request{id};
    $self->{id} = $request{id};
    $request{pairs} = FcgiWire::decode_pairs($request{params_raw});
    $request{params} = { map { @$_ } @{ $request{pairs} } };
    return \%request;
}

sub add_record {
    my ($request, $record) = @_;
    my ($type, $content) = @$record{qw(type content)};
    push @{ $request->{records} }, $record;
    @$request{qw(id role flags)} = @$record{qw(id role flags)}
        if $type == FCGI_BEGIN_REQUEST;
    return if ($request->{id} // -1) != $record->{id};
    $request->{aborted} = 1 if $type == FCGI_ABORT_REQUEST;
    $request->{params_raw} .= $content if $type == FCGI_PARAMS;
    $request->{stdin} .= $content if $type == FCGI_STDIN;
    $request->{params_complete} = 1 if $type == FCGI_PARAMS && $content eq '';
    $request->{stdin_complete} = 1 if $type == FCGI_STDIN && $content eq '';
    return;
}

sub stdout { return shift->send_stream(FCGI_STDOUT, @_) }
sub stderr { return shift->send_stream(FCGI_STDERR, @_) }

# Many bytes in slices of whole records: new memory takes some machines long.
sub send_stream {
    my ($self, $type, $bytes, %opt) = @_;
    my $record = $opt{chunk} || 65535;
    my $slice = $record * (1 + int($SLICE / $record));
    for (my $at = 0; $at == 0 || $at < length $bytes; $at += $slice) {
        $self->send($self->records($type, $self->{id},
                                   substr($bytes, $at, $slice), %opt))
            or return 0;
    }
    return 1;
}

sub end_record {
    my ($self, $app_status, $protocol_status) = @_;
    return $self->record(FCGI_END_REQUEST, $self->{id}, pack 'NCx3',
                         $app_status // 0, $protocol_status // 0);
}

sub end {
    my ($self, @status) = @_;
    return $self->send($self->end_record(@status));
}

sub reply {
    my ($self, $bytes) = @_;
    if (length $bytes > $SLICE) {
        $self->stdout($bytes) or return 0;
        $bytes = '';
    }
    return $self->send(join '',
        $bytes eq '' ? () : $self->records(FCGI_STDOUT, $self->{id}, $bytes),
        $self->records(FCGI_STDOUT, $self->{id}, ''), $self->end_record);
}

sub report {
    my ($self, $name, $data) = @_;
    return $self->{app}->append_report($name, $data);
}

# True when the test released $name, false after $timeout (10) seconds or
# when the test is gone.
sub wait_release {
    my ($self, $name, $timeout) = @_;
    my $gate = $self->{app}->gate($name);
    my $owner = $self->{app}{owner};
    my $seen = Private::wait_until($timeout // 10, sub {
        return getppid != $owner ? 'gone' : -e $gate ? 'released' : '';
    });
    return $seen eq 'released';
}

1;
