# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# FastCGI 1.0 records over a socket, for the scripted application
# (FcgiApp.pm) and for a client that needs no web server (FcgiClient.pm).
# Written on purpose without the module's own code, and able to write what is
# wrong.
#
#     my $wire = FcgiWire->new($socket);
#     $wire->send(FcgiWire->record(STDIN, 1, 'abc'));
#     my $record = $wire->read_record(5);     # { type => ..., content => }
package FcgiWire;

use strict;
use warnings;
use Errno qw(EINTR ECONNRESET);
use Exporter qw(import);
use IO::Select;
use Socket qw(SOL_SOCKET SO_LINGER MSG_NOSIGNAL);
use Time::HiRes qw(sleep time);

use constant {
    FCGI_BEGIN_REQUEST => 1, FCGI_ABORT_REQUEST => 2, FCGI_END_REQUEST => 3,
    FCGI_PARAMS => 4, FCGI_STDIN => 5, FCGI_STDOUT => 6, FCGI_STDERR => 7,
    FCGI_DATA => 8, FCGI_GET_VALUES => 9, FCGI_GET_VALUES_RESULT => 10,
    FCGI_UNKNOWN_TYPE => 11,
    FCGI_REQUEST_COMPLETE => 0, FCGI_CANT_MPX_CONN => 1,
    FCGI_OVERLOADED => 2, FCGI_UNKNOWN_ROLE => 3,
    FCGI_RESPONDER => 1, FCGI_AUTHORIZER => 2, FCGI_FILTER => 3,
    FCGI_KEEP_CONN => 1,
};

our @EXPORT = map { /::(FCGI_\w+)$/ ? $1 : () } keys %constant::declared;

sub new {
    my ($class, $socket) = @_;
    binmode $socket;
    return bless { socket => $socket, buffer => '', id => 1 }, $class;
}

# The bytes of one record; nothing is checked or corrected.
sub record {
    my (undef, $type, $id, $content, $padding, $version) = @_;
    $content //= '';
    $padding //= 0;
    return pack('CCnnCx', $version // 1, $type, $id, length $content,
                $padding) . $content . "\0" x $padding;
}

# A stream's bytes as records; the empty string is the end-of-stream record.
sub records {
    my ($self, $type, $id, $bytes, %opt) = @_;
    return $self->record($type, $id, '', $opt{padding}) if $bytes eq '';
    my $size = $opt{chunk} || 65535;
    my $out = '';
    for (my $at = 0; $at < length $bytes; $at += $size) {
        $out .= $self->record($type, $id, substr($bytes, $at, $size),
                              $opt{padding});
    }
    return $out;
}

# Name-value pairs, both ways.  decode_pairs gives [[name, value], ...] and
# dies when the bytes end in the middle of a pair.
sub encode_pairs {
    my (@pairs) = @_;
    return join '', map {
        join('', map { encode_length(length) } @$_) . $_->[0] . $_->[1]
    } @pairs;
}

sub encode_length {
    my ($len) = @_;
    return $len < 128 ? pack('C', $len) : pack('N', $len | 0x80000000);
}

sub decode_pairs {
    my ($bytes) = @_;
    my ($at, @pairs) = (0);
    while ($at < length $bytes) {
        my $name_len = decode_length($bytes, \$at);
        my $value_len = decode_length($bytes, \$at);
        die "name-value pair is cut\n"
            if $at + $name_len + $value_len > length $bytes;
        push @pairs, [substr($bytes, $at, $name_len),
                      substr($bytes, $at + $name_len, $value_len)];
        $at += $name_len + $value_len;
    }
    return \@pairs;
}

sub decode_length {
    my $at = $_[1];                      # and no copy of $_[0]
    my $size = vec($_[0], $$at, 8) < 128 ? 1 : 4;
    die "length is cut\n" if $$at + $size > length $_[0];
    my $len = unpack $size == 1 ? 'C' : 'N', substr $_[0], $$at, $size;
    $$at += $size;
    return $len & 0x7fffffff;
}

# Writes everything, waiting as long as it takes; false when the peer is gone.
sub send {
    my ($self, $bytes) = @_;
    my $at = 0;
    while ($at < length $bytes) {
        my $sent = CORE::send($self->{socket}, substr($bytes, $at, 262144),
                              MSG_NOSIGNAL);
        return 0 if !defined $sent && $! != EINTR;
        $at += $sent // 0;
    }
    return 1;
}

# The same in pieces of $size bytes with $delay seconds after each.
sub send_slowly {
    my ($self, $bytes, $size, $delay) = @_;
    for (my $at = 0; $at < length $bytes; $at += $size) {
        $self->send(substr $bytes, $at, $size) or return 0;
        sleep $delay;
    }
    return 1;
}

# True when bytes, or the end, can be read within $timeout seconds.
sub readable {
    my ($self, $timeout) = @_;
    return 1 if $self->{buffer} ne '' || $self->{eof};
    return IO::Select->new($self->{socket})->can_read($timeout // 0) ? 1 : 0;
}

# Reads what is there into the buffer: true, or false at the end of the
# connection ($self->{reset} tells how it ended).  Dies at the deadline.
sub fill {
    my ($self, $deadline) = @_;
    return 0 if $self->{eof};
    my $left = $deadline - time;
    IO::Select->new($self->{socket})->can_read($left > 0 ? $left : 0)
        or die "nothing to read before the deadline\n";
    my $got = sysread $self->{socket}, $self->{buffer}, 262144,
        length $self->{buffer};
    return 1 if $got;
    $self->{reset} = 1 if !defined $got && $! == ECONNRESET;
    $self->{eof} = 1;
    return 0;
}

# The next record as { version, type, id, content, padding (bytes) }, with
# role and flags, or app_status and protocol_status where the type has them.
# undef at the end of the connection; dies after $timeout (10) seconds.
sub read_record {
    my ($self, $timeout) = @_;
    my $deadline = time + ($timeout // 10);
    my $header = $self->take(8, $deadline) // return undef;
    my ($len, $padding, %record);
    (@record{qw(version type id)}, $len, $padding) = unpack 'CCnnC', $header;
    $record{content} = $self->take($len, $deadline) // return undef;
    $record{padding} = $self->take($padding, $deadline) // return undef;
    return add_fields(\%record);
}

# Exactly $len bytes, or undef when the connection ends before.
sub take {
    my ($self, $len, $deadline) = @_;
    while (length $self->{buffer} < $len) {
        $self->fill($deadline) or return undef;
    }
    return substr $self->{buffer}, 0, $len, '';
}

sub add_fields {
    my ($record) = @_;
    @$record{qw(role flags)} = unpack 'nC', $record->{content}
        if $record->{type} == FCGI_BEGIN_REQUEST;
    @$record{qw(app_status protocol_status)} = unpack 'NC', $record->{content}
        if $record->{type} == FCGI_END_REQUEST;
    return $record;
}

# Throws away what still comes; true when the peer closes within $timeout.
sub wait_eof {
    my ($self, $timeout) = @_;
    my $deadline = time + ($timeout // 10);
    my $closed = eval {
        $self->{buffer} = '' while $self->fill($deadline);
        1;
    };
    return $closed ? 1 : 0;
}

sub shutdown_write { return shutdown $_[0]{socket}, 1 }

sub close {
    my ($self) = @_;
    return CORE::close $self->{socket};
}

# Closes so that the peer sees ECONNRESET on TCP.  A unix socket can do that
# only while it holds bytes not yet read.
sub reset {
    my ($self) = @_;
    setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
    return $self->close;
}

1;
